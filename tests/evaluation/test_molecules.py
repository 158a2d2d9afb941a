"""Molecules and fragments of molecules, against counts by hand, by brute force and by rdkit's tables."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm_core.errors import DataError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.statistics import wilson

Chem = pytest.importorskip("rdkit.Chem")

GOLD = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "CN1CCC[C@H]1c1cccnc1",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "Oc1ccc(/C=C/c2cc(O)cc(O)c2)cc1",
    "C#Cc1cccc(Nc2ncnc3cc(OCCOC)c(OCCOC)cc23)c1",
    "CC(=O)Nc1ccc(O)cc1",
    "CCO",
]


def rows_of(texts, **more):
    return [{"row": i, "text": text, **more} for i, text in enumerate(texts)]


def measured(rows, name="molecules", **arguments):
    chosen = evaluators.build({name: {"resamples": 50, **arguments}})
    return evaluators.summarised(chosen, evaluators.scored(chosen, rows))


def test_gold_molecules_are_all_there_is_to_be():
    found = measured(rows_of(GOLD))
    for form in ("raw", "repaired"):
        assert found[f"{form}/validity"].value == found[f"{form}/uniqueness"].value == 1
        assert found[f"{form}/validity"].interval == wilson(1, 8)
    assert found["raw/connected"].value == 1


def shuffled(texts, seed):
    letters = random.Random(seed)
    return ["".join(letters.sample(text, len(text))) for text in texts]


def tanimoto(one, other):
    from rdkit.Chem import AllChem

    one, other = (
        set(AllChem.GetMorganFingerprintAsBitVect(Chem.MolFromSmiles(s), 2, nBits=2048).GetOnBits()) for s in (one, other)
    )
    return len(one & other) / len(one | other)


def test_a_mixed_bag_by_brute_force(tmp_path):
    from rdkit.Chem import QED

    texts = [*GOLD, *GOLD[:3], "OCC", "CC.O", "C1CC", "", *shuffled(GOLD, 0), *shuffled(["CCO", "CN", "CCOC"], 1)]
    rows = [(text, Chem.MolFromSmiles(text)) for text in texts]
    valid = [Chem.MolToSmiles(molecule) for text, molecule in rows if text and molecule is not None]
    unique = sorted(set(valid))
    assert 14 <= len(valid) < len(texts) - 3
    known = tmp_path / "train.csv"
    known.write_text("name,smiles\n" + "".join(f"m,{smiles}\n" for smiles in ["OCC", GOLD[1], "C(CN)C", "broken("]))
    found = measured(rows_of(texts), references=str(known), column="smiles")
    pairs = [1 - tanimoto(a, b) for i, a in enumerate(unique) for b in unique[:i]]
    qed = [QED.qed(Chem.MolFromSmiles(smiles)) for smiles in valid]
    expected = {
        "validity": (len(valid) / len(texts), len(texts)),
        "connected": (sum("." not in smiles for smiles in valid) / len(texts), len(texts)),
        "uniqueness": (len(unique) / len(valid), len(valid)),
        "novelty": (len(set(unique) - {"CCO", Chem.CanonSmiles(GOLD[1]), "CCCN"}) / len(unique), len(unique)),
        "diversity": (sum(pairs) / len(pairs), len(unique)),
        "qed": (sum(qed) / len(qed), len(qed)),
    }
    for name, (value, n) in expected.items():
        assert found[f"raw/{name}"].value == pytest.approx(value, rel=1e-5), name
        assert found[f"raw/{name}"].n == n, name
        assert found[f"raw/{name}"].interval[0] <= value <= found[f"raw/{name}"].interval[1]
    assert found["raw/validity"].interval == wilson(len(valid) / len(texts), len(texts))
    assert found["repaired/validity"].value > found["raw/validity"].value
    assert "repaired/connected" not in found


def test_quality_counts_each_molecule_once_over_all_rows():
    """Of these only the second is drug-like and easy to make; ethanol is easy, and the last too small."""
    good = "CC(C)Cc1ccc(cc1)C(C)C(=O)O"
    found = measured(rows_of(["CCO", good, good, "C1", "C"]))
    assert found["raw/quality"].value == 1 / 5
    assert found["raw/quality"].interval == wilson(1 / 5, 5)


def test_thresholds_of_quality():
    from xlm_core.evaluation.evaluators.molecules import good

    cases = {(0.6, 4.0): True, (0.599, 1.0): False, (0.9, 4.001): False, (0.9, 1.0): True}
    assert {case: good({"raw_qed": case[0], "raw_sa": case[1]}, "raw") for case in cases} == cases


def test_where_nothing_is_valid_there_are_zeros():
    found = measured(rows_of(["C1", "", "((("]))
    shares = ("validity", "connected", "uniqueness", "diversity", "quality")
    assert [found[f"raw/{name}"].value for name in shares] == [0] * 5
    assert found["raw/validity"].n == found["raw/quality"].n == 3
    assert "raw/qed" not in found
    assert measured([]) == {}


def test_repeats_do_not_make_the_bootstrap_of_diversity_smaller():
    """Molecules that are all equally far apart have that diversity in every resample."""
    from xlm_core.evaluation.evaluators import molecules

    found = molecules.diversity(["C", "N", "O", "F", "S"], 200)
    assert (found.value, found.stderr, found.interval) == (1, 0, (1, 1))


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv", "parquet"])
def test_references_of_any_kind(tmp_path, suffix):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"known.{suffix}"
    molecules = ["OCC", "C1CC1"]
    if suffix == "txt":
        path.write_text("OCC ethanol\n\nC1CC1\n")
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps({"text": smiles}) + "\n" for smiles in molecules))
    elif suffix == "csv":
        path.write_text("text\nOCC\nC1CC1\n")
    else:
        pq.write_table(pa.table({"text": molecules, "other": [1, 2]}), path)
    found = measured(rows_of(["CCO", "CC", "C1CC1", "CCC"]), references=str(path))
    assert (found["raw/novelty"].value, found["raw/novelty"].n) == (0.5, 4)
    if suffix != "txt":
        with pytest.raises(DataError, match="'smiles'"):
            measured([], references=str(path), column="smiles")


def test_references_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no file of references"):
        measured([], references=str(tmp_path / "nowhere"))
    (tmp_path / "known.txt").write_text("C1\n")
    with pytest.raises(DataError, match="no reference is a molecule"):
        measured(rows_of(["C"]), references=str(tmp_path / "known.txt"))


LINKER = "C2CO.c31ccccc1."
SCAFFOLD = "C2(=O)N3."
# prompt, answer, target, whether it succeeds as it stands and repaired
COMPLETED = [
    (LINKER, "C23", "OCCCc1ccccc1", True, True),
    (LINKER, "C23", "OCCCc1ccccc1", True, True),
    (LINKER, "N23", "OCCCc1ccccc1", True, True),
    (LINKER, "C2.C3", "OCCCc1ccccc1", False, False),  # valid, in two pieces: neither has both
    (LINKER, "C23.C1CC(", "OCCCc1ccccc1", False, True),
    (LINKER, "", "OCCCc1ccccc1", False, False),
    (SCAFFOLD, "C2.C3", "CC(=O)NC", True, True),
    (SCAFFOLD, "C2.C3(", "CC(=O)NC", False, True),  # hydrogen where there is nothing
    (SCAFFOLD, "C2.C(", "CC(=O)NC", False, True),
]


def completed():
    return [{"row": i, "prompt": row[0], "text": row[1], "target": row[2]} for i, row in enumerate(COMPLETED)]


def test_fragments_by_hand():
    chosen = evaluators.build({"molecules_fragments": {"task": "linker_design", "resamples": 20}})
    rows = evaluators.scored(chosen, completed())
    assert [(row["raw_success"], row["repaired_success"]) for row in rows] == [row[3:] for row in COMPLETED]
    found = {name: e.value for name, e in evaluators.summarised(chosen, rows).items()}
    away = 1 - _alike("OCCNc1ccccc1", "OCCCc1ccccc1")
    apart = 1 - tanimoto("OCCNc1ccccc1", "OCCCc1ccccc1")
    assert found["linker_design/raw/validity"] == 5 / 9
    assert found["linker_design/raw/success"] == 4 / 9
    assert found["linker_design/repaired/success"] == 7 / 9
    assert found["linker_design/raw/uniqueness"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["linker_design/raw/diversity"] == pytest.approx((apart + 0) / 2, rel=1e-5)
    assert found["linker_design/raw/distance"] == pytest.approx(((0 + away) / 2 + 0) / 2, rel=1e-5)


def _alike(one, other):
    from rdkit.Chem import AllChem

    one, other = (
        set(AllChem.GetMorganFingerprintAsBitVect(Chem.MolFromSmiles(s), 2, nBits=1024).GetOnBits()) for s in (one, other)
    )
    return len(one & other) / len(one | other)


def test_a_prompt_where_nothing_succeeds_counts_as_zero_and_has_no_distance():
    rows = [{**row, "text": "C1" if row["prompt"] == SCAFFOLD else row["text"]} for row in completed()]
    found = measured(rows, "molecules_fragments")
    assert found["raw/uniqueness"].value == pytest.approx(2 / 3 / 2)
    assert (found["raw/uniqueness"].n, found["raw/distance"].n) == (2, 1)


@pytest.mark.parametrize(
    ("fragment", "answer", "molecule"),
    [
        ("*CCO.*c1ccccc1", "C23", "OCCCc1ccccc1"),  # linker design, and scaffold morphing
        ("*c1ccccc1", "C2CO", "OCCc1ccccc1"),  # motif extension
        ("*c1ccc(*)cc1", "F2.Cl3", "Fc1ccc(Cl)cc1"),  # scaffold decoration
        ("O=C(*)c1ccccc1", "C2", "CC(=O)c1ccccc1"),  # superstructure generation
    ],
)
@pytest.mark.parametrize("bracket", [False, True])
def test_gold_answers_of_all_tasks_succeed(fragment, answer, molecule, bracket):
    from xlm_core.tasks.molecules import bracketed, opened

    whole = f"{opened(fragment)}.{answer}"
    prompt = f"{opened(fragment)}."
    if bracket:
        prompt, whole = f"{bracketed(prompt)}.", bracketed(whole)
        answer = whole.removeprefix(prompt)
        assert answer != whole
    found = measured([{"row": 0, "prompt": prompt, "text": answer, "target": molecule}], "molecules_fragments")
    for name, value in {"validity": 1, "success": 1, "uniqueness": 1, "distance": 0}.items():
        assert found[f"raw/{name}"].value == found[f"repaired/{name}"].value == value


@pytest.mark.parametrize("row", [{"text": "C"}, {"text": "C", "prompt": ""}, {"text": "C", "prompt": "(("}])
def test_rows_without_fragments_are_refused(row):
    with pytest.raises(DataError, match="no prompt that is fragments"):
        measured([{"row": 0, **row}], "molecules_fragments")


def test_rows_are_scored_alike_alone_and_together():
    rows = [*completed(), *({"row": 9 + i, "prompt": LINKER, "text": text} for i, text in enumerate(["C23", "C2", "N23"]))]
    for name, evaluator in evaluators.build({"molecules": {}, "molecules_fragments": {}}).items():
        assert [evaluator.score([row])[0] for row in rows] == evaluator.score(rows), name


def test_how_hard_molecules_are_to_make_is_what_rdkit_publishes():
    """A hundred molecules of ZINC with their scores, which come with rdkit beside the program that computes them."""
    from rdkit import RDConfig

    table = Path(RDConfig.RDContribDir, "SA_Score", "data", "zim.100.txt").read_text().splitlines()[1:]
    texts, scores = zip(*((line.split("\t")[0], float(line.split("\t")[2])) for line in table), strict=True)
    rows = evaluators.build({"molecules": {}})["molecules"].score(rows_of(texts))
    assert len(rows) == 100
    assert max(scores) - min(scores) > 2
    assert [row["raw_sa"] for row in rows] == pytest.approx(scores, abs=6e-4)
    assert measured(rows_of(texts[:20]))["raw/sa"].value == pytest.approx(sum(scores[:20]) / 20, abs=6e-4)


def test_validity_during_training():
    from xlm_core.config import TokenizerConfig
    from xlm_core.data import tokenizers
    from xlm_core.protocols import Prediction
    from xlm_core.tasks.molecules import valid

    tokenizer = tokenizers.build(TokenizerConfig(kind="smiles"))

    def padded(texts):
        ids = [tokenizer.convert_tokens_to_ids(list(text)) for text in texts]
        width = max(map(len, ids))
        return torch.tensor([[*row, *[tokenizer.pad_token_id] * (width - len(row))] for row in ids])

    prediction = Prediction(padded(["CCO", "C1.CC", "(", "C1"]), torch.ones(4, dtype=torch.int64))
    found = valid(prediction, {}, tokenizer)
    assert found["raw_valid"].total.tolist() == [1, 0, 0, 0]
    assert found["repaired_valid"].total.tolist() == [1, 1, 0, 1]
    asked = valid(prediction, {"prompt_ids": padded(["C1.", "C1", "C.", "C1."])}, tokenizer)
    assert asked["raw_valid"].total.tolist() == [0, 0, 0, 1]
    assert np.all(asked["raw_valid"].count.numpy() == 1)
