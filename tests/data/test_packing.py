import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xlm_core.data.packing import Packer
from xlm_core.data.ragged import Ragged

EOS = 99
DOCUMENTS = st.lists(st.lists(st.integers(0, 50), max_size=12), max_size=12)
WIDTH = st.integers(1, 7)


def plain(documents, length):
    """Packing one token at a time."""
    rows = [([], [])]
    for document in documents:
        new_row = len(rows[-1][0]) in (0, length)
        segment = 0 if new_row else rows[-1][1][-1] + 1
        for token in [*document, EOS]:
            if len(rows[-1][0]) == length:
                rows.append(([], []))
                segment = 0
            rows[-1][0].append(token)
            rows[-1][1].append(segment)
    return [row for row in rows if row[0]]


@given(DOCUMENTS, WIDTH, st.data())
def test_packing_agrees_with_the_plain_twin_however_documents_arrive(documents, length, data):
    packer = Packer(length, EOS)
    batches, rest = [], documents
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        batches, rest = [*batches, rest[:size]], rest[size:]
    found = [packer.add(Ragged.of(batch)) for batch in batches] + [packer.flush()]
    rows = [pair for packed in found for pair in zip(packed.input_ids.tolist(), packed.segment_ids.tolist(), strict=True)]
    assert rows == plain(documents, length)
    assert all(len(ids) == length for ids, _ in rows[:-1])


def test_no_token_is_lost_and_each_document_is_closed():
    documents = [[1, 2, 3], [], [4], [5, 6, 7, 8, 9]]
    packer = Packer(4, EOS)
    first, second, rest = packer.add(Ragged.of(documents[:2])), packer.add(Ragged.of(documents[2:])), packer.flush()
    assert first.input_ids.tolist() == [[1, 2, 3, EOS]]
    assert second.input_ids.tolist() == [[EOS, 4, EOS, 5], [6, 7, 8, 9]]
    assert second.segment_ids.tolist() == [[0, 1, 1, 2], [0, 0, 0, 0]]
    assert rest.input_ids.tolist() == [[EOS]]
    assert len(packer.flush().input_ids) == 0


ROWS = st.lists(st.lists(st.integers(0, 1000), max_size=9), max_size=9)


@given(ROWS, WIDTH)
def test_ragged_rows_agree_with_lists(rows, width):
    def lists(ragged):
        return [row.tolist() for row in ragged.rows()]

    ragged = Ragged.of(rows)
    assert lists(ragged) == rows
    assert lists(ragged.cut(width)) == [row[:width] for row in rows]
    assert lists(ragged.cut(width, from_end=True)) == [row[max(len(row) - width, 0) :] for row in rows]
    pieces = [row[start : start + width] for row in rows for start in range(0, max(len(row), 1), width)]
    assert lists(ragged.pieces(width)) == pieces


@given(ROWS, st.data())
def test_ragged_rows_survive_arrow_even_sliced(rows, data):
    import pyarrow as pa

    start = data.draw(st.integers(0, len(rows)))
    array = Ragged.of(rows).to_arrow(pa.uint16())
    assert array.to_pylist() == rows
    again = Ragged.from_arrow(array.slice(start))
    assert [row.tolist() for row in again.rows()] == rows[start:]
    assert again.values.dtype == np.int64
