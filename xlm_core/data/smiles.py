"""The symbols of SMILES strings (Weininger, 1988, doi 10.1021/ci00057a005), as tokens."""

from __future__ import annotations

from itertools import product

ELEMENTS = ("B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I", "b", "c", "n", "o", "p", "s", "se")
CHIRALITIES = ("", "@", "@@")
HYDROGENS = ("", "H", "H2", "H3")
CHARGES = ("", "+", "-")

BRACKETED = tuple(f"[{''.join(parts)}]" for parts in product(ELEMENTS, CHIRALITIES, HYDROGENS, CHARGES))
"""Atoms in brackets without isotope or a charge of two, of the elements of organic molecules."""
RINGS = tuple(f"%{number}" for number in range(10, 100))
PRINTABLE = tuple(map(chr, range(33, 127)))

VOCABULARY = (*PRINTABLE, "Cl", "Br", "@@", *RINGS, *BRACKETED)
SYMBOL = rf"\[(?:{'|'.join(sorted(ELEMENTS, key=len, reverse=True))})@{{0,2}}(?:H[23]?)?[+-]?\]|%[1-9][0-9]|Cl|Br|@@|."
"""Matches the longest entry of the vocabulary at each place."""
