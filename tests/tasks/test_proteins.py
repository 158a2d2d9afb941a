"""UniRef50: residues, cut or cropped."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy.stats import chisquare

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.tasks.proteins import preprocess

LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO.-"
"""ESM-2's, in the order of its vocabulary. Special tokens are before."""
TOKENIZER = tokenizers.build(TokenizerConfig(kind="char", alphabet=LETTERS))


def ids(sequence):
    return [7 + LETTERS.index(letter) for letter in sequence]


CHAINS = ["MKTAYIAKQR", "MXBZUO", "L" * 1500 + "M", "GAVL" * 256]


def test_long_chains_are_cut(copy, prepared):
    rows = [{"seq": chain, "length": len(chain)} for chain in CHAINS]
    folder = copy(train_parquet=rows, valid_parquet=rows)
    made, tokenizer = prepared("uniref50", folder, "train")
    assert [row["input_ids"] for row in made] == [ids(chain[:1024]) for chain in CHAINS]
    assert tokenizer.decode(made[0]["input_ids"]) == "MKTAYIAKQR"


def test_the_published_validation_set_is_halved_by_chance(copy, prepared):
    rows = [{"seq": chain} for chain in ("M" * n for n in range(1, 41))]
    folder = copy(train_jsonl=rows, **{"valid-00000_jsonl": rows})
    halves = (prepared("uniref50", folder, name)[0] for name in ("test", "validation"))
    test, validation = ([len(row["input_ids"]) for row in half] for half in halves)
    assert len(test) == len(validation) == 20
    assert sorted(test + validation) == list(range(1, 41))
    assert min(test) < 10 < 30 < max(test)


def test_packed_rows_hold_whole_chains_or_one_piece_of_a_long_one(copy, prepared):
    chains = ["MKT", "".join(LETTERS[n % 20] for n in range(50)), "GAVLI"]
    folder = copy(train_parquet=[{"seq": chain} for chain in chains], valid_parquet=[{"seq": "M"}] * 2)
    made, tokenizer = prepared("uniref50_packed", folder, "train", "data.length=16")
    stream = [token for row in made for token in row["input_ids"]]
    assert {len(row["input_ids"]) for row in made[:-1]} == {16}
    first, piece, last = "".join(tokenizer.convert_ids_to_tokens(stream)).split("[EOS]")[:3]
    assert (first, last) == ("MKT", "GAVLI")
    assert len(piece) == 16
    assert piece in chains[1]
    assert stream.count(tokenizer.eos_token_id) == 3


def pieces(sequences, **options):
    return preprocess({"seq": sequences}, TOKENIZER, **options)["input_ids"]


def test_a_piece_depends_on_seed_and_sequence_alone():
    chains = ["".join(LETTERS[(n * n + k) % 20] for n in range(200)) for k in range(30)]
    together = pieces(chains, crop=20, seed=1)
    assert together == [pieces([chain], crop=20, seed=1)[0] for chain in reversed(chains)][::-1]
    assert together != pieces(chains, crop=20, seed=2)
    assert pieces(chains[:1], crop=200) == [ids(chains[0])]


@pytest.mark.parametrize("length", [11, 14])
def test_all_places_are_equally_likely(length):
    """A chain whose letters are all different says where its piece begins."""
    found = Counter(pieces([LETTERS[:length]], crop=10, seed=seed)[0][0] - 7 for seed in range(4000))
    assert set(found) == set(range(length - 10 + 1))
    assert chisquare(list(found.values())).pvalue > 1e-4
