"""Molecules by rdkit: reading and repairing text, cutting molecules into fragments, and what is measured on molecules."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm_core.errors import ConfigError, DataError
from xlm_core.tasks.molecules.bracket import bracketed, capped, plain, split
from xlm_core.tasks.molecules.safe import linked

HINT = 'pip install "xlm-core[molecules]"'

try:
    from rdkit import Chem, DataStructs, RDConfig, rdBase
    from rdkit.Chem import BRICS, QED, rdFingerprintGenerator
except ImportError as error:
    raise ConfigError("molecules need rdkit, which is not installed", HINT) from error


def molecule(text: str) -> Any | None:
    """The molecule that a text is as it stands: SMILES, SAFE or bracket SAFE.

    None when rdkit does not read it, and when nothing but hydrogen is in it, or an open bond, `*`. Several molecules with
    dots between them are read as one, of several pieces.
    """
    found = _read(plain(text))
    known = found is not None and found.GetNumHeavyAtoms() and all(atom.GetAtomicNum() for atom in found.GetAtoms())
    return found if known else None


def repaired(text: str) -> Any | None:
    """The largest molecule in a text, by heavy atoms.

    Where the text as it stands is none, fragments that cannot be read by themselves are dropped, the rest is bonded, and
    hydrogen closes what is then open (the repair of Noutahi et al., 2023, arXiv 2310.10773, that published figures of
    validity are after).
    """
    found = molecule(text)
    if found is None:
        kept = [fragment for fragment in split(text) if _read(capped([fragment])) is not None]
        found = _closed(_read(capped(kept)))
    return None if found is None else _largest(found)


def fragments(text: str) -> Any | None:
    """What a prompt of fragments holds, its open bonds closed by hydrogen, in as many pieces as it has; None if unreadable."""
    return _closed(_read(capped(split(text))))


def contains(whole: Any, parts: Any) -> bool:
    """Whether a molecule is in one piece and has all pieces of `parts` in it, at different atoms. Stereo is not compared."""
    return pieces(whole) == 1 and bool(whole.HasSubstructMatch(parts))


def pieces(found: Any) -> int:
    return len(Chem.GetMolFrags(found))


def smiles(found: Any) -> str:
    """Canonical, stereo included: equal molecules have equal ones."""
    text: str = Chem.MolToSmiles(found)
    return text


def safe(text: str, seed: int | None = None) -> str:
    """A molecule, in any of the notations, cut at its BRICS bonds (Degen et al., 2008, doi 10.1002/cmdc.200800178), as bracket
    SAFE.

    A bond at a stereocentre or next to a double bond with stereo is not cut, so that no mark changes its meaning.

    Args:
        seed: the order of fragments and of the atoms in each is drawn, as a function of (seed, text). Without one, larger
            fragments come first and atoms are in canonical order.

    Raises:
        DataError: the text is not a molecule.
    """
    found = molecule(text)
    if found is None:
        raise DataError(f"{text!r} is not a molecule", "It is read as SMILES, SAFE or bracket SAFE.")
    random = None if seed is None else Random(f"{seed} {text}")
    ordered = Chem.MolFromSmiles(smiles(found))  # cuts are numbered as the atoms are
    parts = sorted(Chem.GetMolFrags(_cut(ordered), asMols=True), key=lambda part: (-part.GetNumHeavyAtoms(), smiles(part)))
    if random is not None:
        random.shuffle(parts)
    written = (_walk(part, random) for part in parts)
    # An open bond is written [7*], and both sides of a cut have the same number.
    return bracketed(".".join(linked(part, lambda star: f"<{star.strip('[*]')}>") for part in written))


def attachable(text: str, key: str) -> str:
    """A molecule as SMILES with `*` for the hydrogen of one to three atoms. How many and which is a function of `key`.

    Raises:
        DataError: the text is not a molecule, or has no hydrogen.
    """
    found = molecule(text)
    free = [] if found is None else [atom.GetIdx() for atom in found.GetAtoms() if atom.GetTotalNumHs()]
    if found is None or not free:
        raise DataError(f"{text!r} is not a molecule that something can be bound to", "It has no hydrogen, or is not SMILES.")
    random = Random(key)
    editable = Chem.RWMol(found)
    for place in random.sample(free, random.randint(1, min(3, len(free)))):
        atom = editable.GetAtomWithIdx(place)
        atom.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() - 1))
        editable.AddBond(place, editable.AddAtom(Chem.Atom(0)), Chem.BondType.SINGLE)
    Chem.SanitizeMol(editable)
    return smiles(editable)


def qed(found: Any) -> float:
    """Quantitative estimate of drug-likeness, 0 to 1 (Bickerton et al., 2012, doi 10.1038/nchem.1243)."""
    return float(QED.qed(found))


def sa(found: Any) -> float:
    """Synthetic accessibility, 1 (easy) to 10 (hard) (Ertl and Schuffenhauer, 2009, doi 10.1186/1758-2946-1-8)."""
    return float(_scorer().calculateScore(found))


def distances(ones: Sequence[Any], others: Sequence[Any], bits: int) -> NDArray[np.float32]:
    """(N, M): 1 - Tanimoto similarity of the Morgan fingerprints of molecules, of radius 2 with so many bits."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=bits)
    left, right = ([generator.GetFingerprint(found) for found in group] for group in (ones, others))
    alike = [DataStructs.BulkTanimotoSimilarity(one, right) for one in left]
    return 1 - np.array(alike, dtype=np.float32).reshape(len(ones), len(others))


def _read(text: str) -> Any | None:
    """Behind white space, rdkit would read a name; and it takes nothing at all for a molecule."""
    if text.split() != [text]:
        return None
    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(text)


def _closed(found: Any | None) -> Any | None:
    """A molecule whose open bonds are closed by hydrogen; None when that makes none."""
    if found is None:
        return None
    editable = Chem.RWMol(found)
    for atom in editable.GetAtoms():
        if not atom.GetAtomicNum():
            atom.SetAtomicNum(1)
            atom.SetIsotope(0)
            for bond in atom.GetBonds():
                bond.SetBondType(Chem.BondType.SINGLE)
    with rdBase.BlockLogs():
        if Chem.SanitizeMol(editable, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
            return None
        return molecule(smiles(Chem.RemoveHs(editable)))


def _largest(found: Any) -> Any:
    parts = Chem.GetMolFrags(found, asMols=True)
    return min(parts, key=lambda part: (-part.GetNumHeavyAtoms(), smiles(part)))


def _cut(found: Any) -> Any:
    """The molecule in fragments. Both sides of the k-th cut have a dummy atom of isotope k."""
    with_stereo = {i for i, _ in Chem.FindMolChiralCenters(found, includeUnassigned=True, useLegacyImplementation=False)}
    for bond in found.GetBonds():
        if bond.GetStereo() != Chem.BondStereo.STEREONONE:
            with_stereo |= {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()}
    ends = sorted(tuple(sorted(atoms)) for atoms, _ in BRICS.FindBRICSBonds(found) if not with_stereo & set(atoms))
    if not ends:
        return found
    numbers = range(1, len(ends) + 1)
    bonds = [found.GetBondBetweenAtoms(*atoms).GetIdx() for atoms in ends]
    return Chem.FragmentOnBonds(found, bonds, dummyLabels=list(zip(numbers, numbers, strict=True)))


def _walk(part: Any, random: Random | None) -> str:
    if random is None:
        return smiles(part)
    (text,) = Chem.MolToRandomSmilesVect(part, 1, randomSeed=random.randrange(1, 2**31))
    return str(text)


@cache
def _scorer() -> Any:
    """The authors' own program and table, which come with rdkit beside its packages."""
    file = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("sascorer", file)
    if not file.exists() or spec is None or spec.loader is None:
        raise ConfigError(f"this rdkit comes without {file}", f"The wheels have it: {HINT}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
