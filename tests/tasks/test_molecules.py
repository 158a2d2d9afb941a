"""QM9, SAFE and fragments of drugs."""

from __future__ import annotations

import csv

import datasets
import pytest

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import DataError
from xlm_core.tasks.molecules import opened, preprocess_fragments

TOKENIZER = tokenizers.build(TokenizerConfig(kind="smiles"))

SYMBOLS = {
    "CCO": ["C", "C", "O"],
    "C#CC(=O)N": ["C", "#", "C", "C", "(", "=", "O", ")", "N"],
    "ClCBr": ["Cl", "C", "Br"],
    "c1cc[nH]c1": ["c", "1", "c", "c", "[nH]", "c", "1"],
    "C[C@@H](F)[NH3+]": ["C", "[C@@H]", "(", "F", ")", "[NH3+]"],
    "F/C=C\\[O-]": ["F", "/", "C", "=", "C", "\\", "[O-]"],
    "C%10CC%10.C1C1": ["C", "%10", "C", "C", "%10", ".", "C", "1", "C", "1"],
    "[Si]([SiH3])[se]": ["[Si]", "(", "[SiH3]", ")", "[se]"],
    "[13CH4]": ["[", "1", "3", "C", "H", "4", "]"],
    "[Ca+2]": ["[", "C", "a", "+", "2", "]"],
    "[C@@@H]": ["[", "C", "@@", "@", "H", "]"],
    "C%01": ["C", "%", "0", "1"],
    "[MASK]": ["[", "M", "A", "S", "K", "]"],
}


@pytest.mark.parametrize(("smiles", "symbols"), SYMBOLS.items())
def test_symbols_are_tokens_and_come_back_exactly(smiles, symbols):
    (ids,) = tokenizers.encode(TOKENIZER, [smiles])
    assert TOKENIZER.convert_ids_to_tokens(ids) == symbols
    assert TOKENIZER.decode(ids) == smiles
    assert not set(ids) & set(TOKENIZER.all_special_ids)


def test_every_printable_character_and_every_ring_number_has_a_token():
    text = "".join(map(chr, range(33, 127))) + "".join(f"%{n}" for n in range(10, 100))
    (ids,) = tokenizers.encode(TOKENIZER, [text])
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.unk_token_id not in ids
    assert tokenizers.encode(TOKENIZER, ["é"]) == [[TOKENIZER.unk_token_id]]


def test_the_tokenizer_is_saved_and_loaded(tmp_path):
    tokenizers.save(TOKENIZER, tmp_path)
    assert tokenizers.fingerprint(tokenizers.load(tmp_path)) == tokenizers.fingerprint(TOKENIZER)


def decoded(made):
    rows, tokenizer = made
    return [tokenizer.decode(row["input_ids"]) for row in rows]


def test_qm9_holds_out_what_was_published(copy, prepared):
    molecules = ["C" * (1 + n % 7) + "N" * (n // 7 + 1) for n in range(130)]
    folder = copy(part_parquet=[{"canonical_smiles": smiles, "mu": 0.5} for smiles in molecules])
    published = datasets.Dataset.from_dict({"s": molecules}).train_test_split(test_size=0.05, seed=42)
    train, validation, test = (decoded(prepared("qm9", folder, name)) for name in ("train", "validation", "test"))
    assert train == published["train"]["s"][:]
    assert test + validation == published["test"]["s"][:]
    assert (len(train), len(validation), len(test)) == (123, 3, 4)


SAFE = ["c1ccc2c(c1)C3.O=C3N2", "CC4.C4N"]


def test_safe_is_read_as_it_is_published(copy, prepared):
    rows = [{"safe": text} for text in SAFE]
    folder = copy(train_parquet=rows, validation_parquet=rows[:1], test_parquet=rows[1:])
    assert decoded(prepared("safe", folder, "train")) == SAFE
    assert decoded(prepared("safe", folder, "validation")) == SAFE[:1]
    assert decoded(prepared("safe", folder, "test")) == SAFE[1:]


FRAGMENTS = {
    "[*:1]c1ccccc1": "c21ccccc1",
    "*C(=O)N[1*]": "C1(=O)N2",
    "CC(*)C": "CC1C",
    "CC([*:2])(F)Cl": "CC1(F)Cl",
    "C=*": "C=1",
    "*=CC": "C=1C",
    "*CC.[2*]c1ccccc1": "C2C.c31ccccc1",
    "C[C@@H](/F)[*]": "C[CH]1(F)",
    "C%12CC%12*": "C%12CC%12%13",
    "CCO": "CCO",
}


@pytest.mark.parametrize(("smiles", "safe"), FRAGMENTS.items())
def test_open_bonds_become_ring_numbers(smiles, safe):
    assert opened(smiles) == safe


BROKEN = ["*", "**", "C*C", "C(*", "C)", "*(C)C", "C(*)*C", "C=", "=", "", "C C", "C(.C)", "*1CC1", "(C)"]


@pytest.mark.parametrize("smiles", BROKEN)
def test_what_is_no_fragment_is_refused(smiles):
    with pytest.raises(DataError):
        opened(smiles)


def write(path):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "smiles", "linker_design", "motif_extension"])
        writer.writerow(["A", "CCc1ccccc1", "*C.*c1ccccc1", "*c1ccccc1"])
        writer.writerow(["B", "NCCO", "*N.*O", "*CO"])
    return path


def test_fragments_are_asked_ten_times_each(prepared, tmp_path):
    path = write(tmp_path / "fragments.csv")
    rows, tokenizer = prepared("safe_fragment", path, "test")
    texts = [(tokenizer.decode(row["prompt_ids"]), tokenizer.decode(row["input_ids"])) for row in rows]
    assert texts == [("C2.c31ccccc1.", "CCc1ccccc1")] * 10 + [("N1.O2.", "NCCO")] * 10
    rows, _ = prepared("safe_fragment", path, "test", "data.arguments.task=motif_extension", "data.arguments.samples=1")
    assert [tokenizer.decode(row["prompt_ids"]) for row in rows] == ["c21ccccc1.", "C1O."]


def test_prompts_in_bracket_safe_and_morphing(prepared, tmp_path):
    options = ("data.arguments.task=scaffold_morphing", "data.arguments.bracket=true", "data.arguments.samples=1")
    rows, tokenizer = prepared("safe_fragment", write(tmp_path / "fragments.csv"), "test", *options)
    assert [tokenizer.decode(row["prompt_ids"]) for row in rows] == ["C<1>.c<2>1ccccc1.", "N<1>.O<2>."]


def test_a_superstructure_without_open_bonds_gets_some():
    chem = pytest.importorskip("rdkit.Chem")
    from xlm_core.tasks.molecules.chemistry import fragments, smiles

    def prompts(seed, fragment="O=c1cc[nH]c2ccccc12"):
        rows = {"smiles": ["C"], "superstructure_generation": [fragment]}
        made = preprocess_fragments(rows, TOKENIZER, "superstructure_generation", samples=40, bracket=True, seed=seed)
        return [TOKENIZER.decode(ids) for ids in made["prompt_ids"]]

    drawn = prompts(0)
    assert drawn == prompts(0) != prompts(1)
    assert {prompt.count("<") for prompt in drawn} == {1, 2, 3}
    assert {smiles(fragments(prompt)) for prompt in drawn} == {chem.CanonSmiles("O=c1cc[nH]c2ccccc12")}
    assert any("n<" in prompt for prompt in drawn)
    assert set(prompts(0, "CC*")) == {"CC<1>."}
    with pytest.raises(DataError, match="something can be bound to"):
        prompts(0, "FC(F)(F)F")


def test_safe_in_brackets(copy, prepared):
    folder = copy(
        train_parquet=[{"safe": text} for text in SAFE], validation_parquet=[{"safe": "C"}], test_parquet=[{"safe": "C"}]
    )
    assert decoded(prepared("safe_bracket", folder, "train")) == ["c1ccc<1>c(c1)C<2>.O=C<2>N<1>", "CC<1>.C<1>N"]


def test_a_task_that_is_not_there_is_named():
    with pytest.raises(DataError, match="'smiles'"):
        preprocess_fragments({"smiles": ["C"]}, TOKENIZER, "smiles")
