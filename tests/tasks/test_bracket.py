"""Bracket SAFE as text, and against rdkit on molecules that are drugs, nutrients and poisons."""

from __future__ import annotations

import re
import sys
from collections import Counter

import pytest

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import ConfigError, DataError
from xlm_core.evaluation import evaluators
from xlm_core.tasks.molecules import bracketed, opened, plain, preprocess

Chem = pytest.importorskip("rdkit.Chem")
chemistry = pytest.importorskip("xlm_core.tasks.molecules.chemistry")

NOTATIONS = {
    "c1ccc2c(c1)C3.O=C3N2": "c1ccc<1>c(c1)C<2>.O=C<2>N<1>",
    "CC4.C4N": "CC<1>.C<1>N",
    "C1CC1.C1CC1": "C1CC1.C1CC1",
    "C12CC1.C2": "C1<1>CC1.C<1>",
    "C=%10.C=%10": "C=<1>.C=<1>",
    "C(%11)(=%(12))O.N%11.C%(12)": "C<1>=<2>O.N<1>.C<2>",
    "[13CH3]3.[2H]3": "[13CH3]<1>.[2H]<1>",
    "CCO": "CCO",
    "C2.c31ccccc1.": "C<1>.c<2>1ccccc1",
    "C<7>.C<7><%12>.C<%12>": "C<1>.C<1><2>.C<2>",
    "C<1><1>.C2.C2": "C<1><1>.C<2>.C<2>",
}


@pytest.mark.parametrize(("safe", "bracket"), NOTATIONS.items())
def test_bonds_between_fragments_get_labels_and_rings_keep_their_numbers(safe, bracket):
    assert bracketed(safe) == bracket
    assert bracketed(plain(bracket)) == bracket or "<1><1>" in bracket  # a ring in a label becomes a ring in a number


def test_labels_become_numbers_above_those_of_rings():
    assert plain("c<1>1ccc2ccccc2c1.C<1>") == "c31ccc2ccccc2c1.C3"
    assert plain("C(=<2>)C%11CC%11.C<2>") == "C=%13C%11CC%11.C%13"
    assert plain("C<%98>C1CC1C<99>") == "C%99C1CC1C%(100)"
    assert plain("C(1)C<a>") == "C(1)C<a>"


@pytest.mark.parametrize("bonds", [*range(1, 16), 99, 150])
def test_a_chain_of_carbons_for_any_number_of_labels(bonds):
    """Labels 1 to n between n + 1 carbons make the alkane; more than nine never did with a pattern for digits alone."""
    label = [f"<{k}>" if k < 10 else f"<%{k}>" for k in range(bonds + 1)]
    chain = [f"C{label[1]}", *(f"C{label[k]}{label[k + 1]}" for k in range(1, bonds)), f"C{label[bonds]}"]
    assert chemistry.smiles(chemistry.molecule(".".join(chain))) == "C" * (bonds + 1)


MOLECULES = {
    "methane": "C",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "nicotine": "CN1CCC[C@H]1c1cccnc1",
    "ibuprofen": "CC(C)Cc1ccc(cc1)[C@H](C)C(=O)O",
    "imatinib": "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1",
    "penicillin G": "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O",
    "atorvastatin": "CC(C)c1c(C(=O)Nc2ccccc2)c(-c2ccccc2)c(-c2ccc(F)cc2)n1CC[C@@H](O)C[C@@H](O)CC(=O)O",
    "celecoxib": "Cc1ccc(-c2cc(C(F)(F)F)nn2-c2ccc(S(N)(=O)=O)cc2)cc1",
    "sildenafil": "CCCc1nn(C)c2c(=O)[nH]c(-c3cc(S(=O)(=O)N4CCN(C)CC4)ccc3OCC)nc12",
    "erlotinib": "C#Cc1cccc(Nc2ncnc3cc(OCCOC)c(OCCOC)cc23)c1",
    "tamoxifen": "CC/C(=C(\\c1ccccc1)c1ccc(OCCN(C)C)cc1)c1ccccc1",
    "resveratrol": "Oc1ccc(/C=C/c2cc(O)cc(O)c2)cc1",
    "cholesterol": "C[C@H](CCCC(C)C)[C@H]1CC[C@H]2[C@@H]3CC=C4C[C@@H](O)CC[C@]4(C)[C@H]3CC[C@]12C",
    "enkephalin": "CC(C)C[C@@H](C(=O)O)NC(=O)[C@H](Cc1ccccc1)NC(=O)CNC(=O)CNC(=O)[C@H](Cc1ccc(O)cc1)N",
    "glycine": "[NH3+]CC(=O)[O-]",
    "methanol, heavy": "[2H]C([2H])([2H])OC(=O)c1ccccc1",
    "polyglycine": "NCC(=O)" * 12 + "O",
    "cubane": "C12C3C4C1C5C2C3C45",
}


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("smiles", MOLECULES.values(), ids=MOLECULES)
def test_molecules_come_back_from_their_fragments(smiles, seed):
    bracket = chemistry.safe(smiles, seed)
    assert Chem.CanonSmiles(plain(bracket)) == Chem.CanonSmiles(smiles)
    assert bracketed(plain(bracket)) == bracket
    labels = Counter(re.findall(r"<%?\d+>", bracket))
    assert set(labels.values()) <= {2}
    assert bracket.count(".") <= len(labels)
    assert chemistry.safe(plain(bracket)) == chemistry.safe(smiles)


def test_molecules_are_cut_where_they_are_made_and_seeds_draw_the_order():
    """The ester and the bonds to the ring, of aspirin."""
    parts = plain(chemistry.safe(MOLECULES["aspirin"])).split(".")
    assert sorted(chemistry.smiles(chemistry.fragments(part)) for part in parts) == ["CC=O", "O", "O=CO", "c1ccccc1"]
    assert "." not in chemistry.safe(MOLECULES["cubane"])
    drawn = {chemistry.safe(MOLECULES["imatinib"], seed) for seed in range(5)}
    assert len(drawn) == 5
    assert chemistry.safe(MOLECULES["imatinib"], 3) in drawn


REPAIRS = {
    "CCO": "CCO",
    "c<1>1ccccc1.C<1>": "Cc1ccccc1",
    "C<1>CO": "CCO",
    "[C@@H]<1>(F)Cl": "FCCl",
    "[C@@]<1>(F)(Cl)Br": "[C@@]([H])(F)(Cl)Br",
    "c1ccccc1.C(<1>)CC": "c1ccccc1",
    "c1cccc.CCO": "CCO",
    "N(C)(C)(C)(C)C.CC": "CC",
    "CC((.CCN": "CCN",
    "CCC=<1>.N#C<2>": "CCC",
    "c1ccn<1>c1.C<1><2>.C<3": "Cn1cccc1",
    "[NH3+]CC.CCCC": "CCCC",
    "[13CH3][13CH3].CCC": "CCC",
    "C*": "C",
    "CC O.CCC": "CCC",
    "C(1)CC1": "C1CC1",
    "c1cc2.c1cc2": "c1ccccc1",
    "xyz": None,
    "": None,
    "..": None,
    "<1>": None,
    "[H][H]": None,
    "*": None,
}


@pytest.mark.parametrize(("text", "smiles"), REPAIRS.items())
def test_repair_keeps_the_largest_molecule_of_what_can_be_read(text, smiles):
    found = chemistry.repaired(text)
    assert (found and Chem.CanonSmiles(chemistry.smiles(found))) == (smiles and Chem.CanonSmiles(smiles))


@pytest.mark.parametrize("text", ["", " ", "C C", "CCO name", "*C", "[H][H]", "C<1>", "C1CC", "C(C)(C)(C)(C)C", "C..C", "C\n"])
def test_what_is_no_molecule_as_it_stands(text):
    assert chemistry.molecule(text) is None


@pytest.mark.parametrize("smiles", MOLECULES.values(), ids=MOLECULES)
def test_what_needs_no_repair_is_left_alone(smiles):
    assert chemistry.smiles(chemistry.repaired(chemistry.safe(smiles, 1))) == Chem.CanonSmiles(smiles)


def test_figures_that_are_known():
    """QED from the documentation of rdkit, SA from that of the therapeutics data commons."""
    assert chemistry.qed(chemistry.molecule("N=C(CCSCc1csc(N=C(N)N)n1)NS(N)(=O)=O")) == pytest.approx(0.253, abs=1e-3)
    molecule = chemistry.molecule("CC(C)(C)[C@H]1CCc2c(sc(NC(=O)COc3ccc(Cl)cc3)c2C(N)=O)C1")
    assert chemistry.sa(molecule) == pytest.approx(2.706, abs=2e-3)


def test_distances_by_hand():
    from rdkit.Chem import AllChem

    molecules = [Chem.MolFromSmiles(MOLECULES[name]) for name in ("aspirin", "caffeine", "ibuprofen")]
    bits = [set(AllChem.GetMorganFingerprintAsBitVect(m, 2, nBits=512).GetOnBits()) for m in molecules]
    found = chemistry.distances(molecules, molecules[:2], 512)
    assert found.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            assert found[i, j] == pytest.approx(1 - len(bits[i] & bits[j]) / len(bits[i] | bits[j]), abs=1e-6)


def test_rows_are_rewritten_or_cut_anew():
    tokenizer = tokenizers.build(TokenizerConfig(kind="smiles"))

    def made(text, **options):
        (ids,) = preprocess({"safe": [text]}, tokenizer, **options)["input_ids"]
        return tokenizer.decode(ids)

    assert made("c1ccc2c(c1)C3.O=C3N2") == "c1ccc<1>c(c1)C<2>.O=C<2>N<1>"
    assert made(MOLECULES["imatinib"], cut=True, seed=4) == chemistry.safe(MOLECULES["imatinib"], 4)
    with pytest.raises(DataError, match="no order"):
        made("C", seed=1)
    with pytest.raises(DataError, match="not a molecule"):
        made("C1", cut=True)


def test_fragments_hold_what_the_prompt_says():
    given = chemistry.fragments(opened("*CCO.*c1ccccc1") + ".")
    assert chemistry.smiles(given) == Chem.CanonSmiles("CCO.c1ccccc1")
    hold = {"OCCc1ccccc1": True, "OCCCCc1ccccc1": True, "CCO.c1ccccc1": False, "OCc1ccccc1": False, "CCOC1CCCCC1": False}
    assert {text: chemistry.contains(Chem.MolFromSmiles(text), given) for text in hold} == hold
    twice = chemistry.fragments("c<1>1ccccc1.c<2>1ccccc1.")
    assert not chemistry.contains(Chem.MolFromSmiles("Cc1ccccc1"), twice)
    assert chemistry.contains(Chem.MolFromSmiles("C(c1ccccc1)c1ccccc1"), twice)


def test_what_is_not_installed_is_said_with_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    monkeypatch.delitem(sys.modules, "xlm_core.tasks.molecules.chemistry")
    monkeypatch.delattr("xlm_core.tasks.molecules.chemistry")
    with pytest.raises(ConfigError, match="molecules need rdkit, which is not installed") as caught:
        preprocess({"safe": ["C"]}, None, cut=True)
    assert caught.value.hint == 'pip install "xlm-core[molecules]"'
    monkeypatch.delitem(sys.modules, "xlm_core.evaluation.evaluators.molecules", raising=False)
    with pytest.raises(ConfigError, match="molecules need rdkit"):
        evaluators.build({"molecules": {}})
