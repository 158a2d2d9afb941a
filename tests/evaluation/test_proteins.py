"""Proteins: their composition by hand, their FASTA file, and the results of folding."""

from __future__ import annotations

import json
import math

import pytest

from xlm_core.errors import DataError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators.proteins import BACKGROUND, RESIDUES
from xlm_core.evaluation.statistics import wilson

CHAINS = ["AAC", "AAC", "GAVLI", "", "MKX", "AAAA"]


def rows_of(texts):
    return [{"row": i, "text": text} for i, text in enumerate(texts)]


def measured(texts, **arguments):
    chosen = evaluators.build({"proteins": {"resamples": 50, **arguments}})
    return evaluators.summarised(chosen, evaluators.scored(chosen, rows_of(texts)))


def test_sequences_by_hand():
    found = measured(CHAINS)
    assert {name: found[name].value for name in ("canonical", "unique", "length")} == {
        "canonical": 4 / 6,
        "unique": 4 / 5,
        "length": (3 + 3 + 5 + 0 + 3 + 4) / 6,
    }
    assert found["canonical"].interval == wilson(4 / 6, 6)
    assert found["distinct_1"].value == pytest.approx((2 / 3 + 2 / 3 + 1 + 1 + 1 / 4) / 5)
    assert found["distinct_2"].value == pytest.approx((1 + 1 + 1 + 1 + 1 / 3) / 5)
    counts = {"A": 9, "C": 2, "G": 1, "V": 1, "L": 1, "I": 1, "M": 1, "K": 1}
    law = {letter: n / 17 for letter, n in counts.items()}
    assert found["composition_entropy"].value == pytest.approx(-sum(p * math.log(p) for p in law.values()))
    kl = sum(p * math.log(p / BACKGROUND[letter]) for letter, p in law.items())
    assert found["composition_kl"].value == pytest.approx(kl, rel=1e-6)
    assert found["composition_kl"].n == 5
    assert found["composition_kl"].interval[0] < kl < found["composition_kl"].interval[1] * 1.5


def test_the_background_is_a_law_of_all_residues():
    """Each share is published with seven digits, so that a wrong one shows in their sum. Leucine is the most frequent residue
    of proteins, tryptophan the least."""
    assert set(BACKGROUND) == set(RESIDUES)
    assert sum(BACKGROUND.values()) == pytest.approx(0.9999999, abs=1e-8)
    assert (max(RESIDUES, key=BACKGROUND.get), min(RESIDUES, key=BACKGROUND.get)) == ("L", "W")
    assert measured([RESIDUES])["composition_entropy"].value == pytest.approx(math.log(20))


def test_references_are_the_law_to_compare_with(tmp_path):
    path = tmp_path / "references.jsonl"
    path.write_text('{"text": "AACC"}\n{"text": "XX"}\n')
    assert measured(["CACA", "ACCA"], references=str(path))["composition_kl"].value == 0
    assert measured(["AAAA"], references=str(path))["composition_kl"].value == pytest.approx(math.log(2))
    with pytest.raises(DataError, match="have no M W"):
        measured(["AMW"], references=str(path))


def test_nothing_and_nothing_standard():
    assert measured([]) == {}
    found = measured(["", "XX"])
    assert found["canonical"].value == 0
    assert "composition_kl" not in found


def write(path, entries):
    if path.suffix == ".csv":
        names = list(entries[0])
        lines = [",".join(names), *(",".join(str(entry[name]) for name in names) for entry in entries)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(entries))
    else:
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


FOLDED = [
    {"id": "SEQUENCE_0_L=3", "plddt": 90.0, "ptm": 0.8, "pae": 5.0, "perplexity": 4.0},
    {"id": "2", "plddt": 80.0, "ptm": 0.9, "pae": 5.0, "perplexity": 8.0},
    {"id": "SEQUENCE_5_L=4", "plddt": 81.0, "ptm": 0.71, "pae": 9.9, "perplexity": ""},
    {"id": "1", "plddt": 95.0, "ptm": 0.9, "pae": 10.0, "perplexity": ""},
]


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_results_of_folding_are_summed_up(tmp_path, suffix):
    found = measured(CHAINS, results=write(tmp_path / f"results.{suffix}", FOLDED))
    assert found["scored"].value == 4 / 6
    assert found["plddt"].value == pytest.approx((90 + 80 + 81 + 95) / 4)
    assert (found["perplexity"].value, found["perplexity"].n) == (6, 2)
    assert found["foldable"].value == 2 / 6
    assert found["foldable"].interval == wilson(2 / 6, 6)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"id": "SEQUENCE_0_L=9", "plddt": 90}], "'SEQUENCE_0_L=9', which is none"),
        ([{"id": "0", "plddt": 90}, {"id": "SEQUENCE_0_L=3", "plddt": 90}], "results twice"),
        ([{"id": "0", "plddt": 90}, {"id": "0", "plddt": 91}], "is no file of results"),
        ([{"id": "0", "plddt": "high"}], "is no file of results"),
        ([{"id": "0"}], "is no file of results"),
        ([{"name": "0", "plddt": 1}], "is no file of results"),
        ([{"id": "0", "plddt": 0.9}], "between 0 and 1"),
    ],
)
def test_results_of_something_else(tmp_path, entries, words):
    with pytest.raises(DataError, match=words):
        measured(CHAINS, results=write(tmp_path / "results.json", entries))
    with pytest.raises(DataError, match="no file of results"):
        measured(CHAINS, results=str(tmp_path / "nowhere.csv"))


def test_a_file_of_predictions_becomes_fasta_and_then_a_summary(tmp_path):
    from xlm_core import results

    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of(CHAINS)))
    first = results.assess(file, evaluators.build({"proteins": None}))
    assert file.with_suffix(".fasta").read_text() == (
        ">SEQUENCE_0_L=3\nAAC\n>SEQUENCE_1_L=3\nAAC\n>SEQUENCE_2_L=5\nGAVLI\n>SEQUENCE_5_L=4\nAAAA\n"
    )
    scores = write(tmp_path / "scores.csv", FOLDED)
    second = results.assess(file, evaluators.build({"proteins": {"results": scores}}))
    assert second.items() > first.items()
    assert second["foldable"].value == 2 / 6
