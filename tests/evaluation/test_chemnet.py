"""The Fréchet ChemNet distance: its formula on normal laws, what it is taken of, and its authors' own program if installed."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xlm_core.errors import ConfigError, DataError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators import chemnet
from xlm_core.evaluation.evaluators.chemnet import frechet

pytest.importorskip("rdkit")

MADE = ["CCO", "OCC", "CCN", "c1ccccc1", "CC(=O)O", "C1CC", "CCCC", "CC#N"]
DIFFERENT = ["CC#N", "CC(=O)O", "CCCC", "CCN", "CCO", "c1ccccc1"]
"""Those of MADE that are molecules, as rdkit writes them, each once."""
LIKE = ["CO", "CCO", "CCl", "c1ccncc1", "C1CCCCC1", "N"]


def normal(n, mean, covariance, seed=0):
    """(n, D) rows whose mean and covariance are exactly these."""
    rows = np.random.default_rng(seed).normal(size=(n, len(mean)))
    white = np.linalg.qr(rows - rows.mean(0))[0] * math.sqrt(n - 1)
    return white @ np.linalg.cholesky(covariance).T + mean


def test_laws_that_share_their_axes_by_hand():
    """|m - n|^2 and the squared differences of the deviations along each axis, which any rotation leaves as they are."""
    one = normal(40, [1.0, 2.0, 3.0], np.diag([4.0, 9.0, 1.0]))
    other = normal(50, [1.0, 0.0, 3.5], np.diag([1.0, 25.0, 1.0]), seed=1)
    turned = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    expected = (0 + 4 + 0.25) + ((2 - 1) ** 2 + (3 - 5) ** 2 + 0)
    assert frechet(one, other) == pytest.approx(expected)
    assert frechet(other @ turned, one @ turned) == pytest.approx(expected)


def test_any_laws_by_the_root_of_a_matrix():
    linalg = pytest.importorskip("scipy.linalg")
    random = np.random.default_rng(0)
    one, other = random.normal(size=(60, 5)) @ random.normal(size=(5, 5)), random.normal(size=(30, 5)) + 1
    a, b = np.cov(one.T), np.cov(other.T)
    apart = one.mean(0) - other.mean(0)
    expected = apart @ apart + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert frechet(one, other) == pytest.approx(expected)


def test_fewer_rows_than_columns():
    """Two rows each, so that a covariance is the product of one vector with itself: |m - n|^2 + |a|^2 + |b|^2 - 2 |a b|."""
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 9)), random.normal(size=(2, 9))
    a, b = ((rows[0] - rows[1]) / math.sqrt(2) for rows in (one, other))
    apart = one.mean(0) - other.mean(0)
    assert frechet(one, other) == pytest.approx(apart @ apart + a @ a + b @ b - 2 * abs(a @ b))
    assert frechet(one, one) == pytest.approx(0, abs=1e-12)


def letters(text, length):
    """(length, 35): the i-th letter of the text is one of 35 by its number."""
    found = np.zeros((length, 35))
    for place, letter in enumerate(text[:length]):
        found[place, ord(letter) % 35] = 1
    return found


def counted(texts):
    """(N, 35): how often each of the 35 is in a text, which is what the puppet of a network below says."""
    return np.stack([letters(text, 350).sum(0) for text in texts])


@pytest.fixture
def puppet(monkeypatch):
    """In place of fcd: a network that counts letters."""
    network = torch.nn.Module()
    network.forward = lambda seen_BVL: (35 * seen_BVL).sum(-1)
    utils = SimpleNamespace(get_one_hot=letters)
    monkeypatch.setitem(sys.modules, "fcd", SimpleNamespace(load_ref_model=lambda: network, utils=utils))
    monkeypatch.setitem(sys.modules, "fcd.utils", utils)


def measured(texts, path, **arguments):
    chosen = evaluators.build({"molecules": {"fcd_references": str(path), "resamples": 2, **arguments}})
    return evaluators.summarised(chosen, evaluators.scored(chosen, [{"row": i, "text": text} for i, text in enumerate(texts)]))


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_it_is_of_different_molecules_and_of_the_first_references(puppet, tmp_path, monkeypatch):
    monkeypatch.setattr(chemnet, "BATCH", 2)
    path = write(tmp_path / "like.txt", [*LIKE, "CCCCCCCCCCCC"])
    found = measured(MADE, path, fcd_rows=6)
    expected = frechet(counted(DIFFERENT), counted(LIKE))
    assert found["raw/fcd"].value == pytest.approx(expected, rel=1e-6)
    assert (found["raw/fcd"].n, found["raw/fcd"].interval) == (6, None)
    assert found["raw/fcd"].stderr > 0
    assert found["raw/fcd_score"].value == pytest.approx(math.exp(-0.2 * expected), rel=1e-6)
    assert found["repaired/fcd"].n == 7  # C1CC, its ring left open, is propane
    assert measured(MADE, path)["raw/fcd"].value != pytest.approx(expected, rel=1e-6)
    assert measured([*LIKE, "OC"], path, fcd_rows=6)["raw/fcd"].value == pytest.approx(0, abs=1e-9)


def test_one_molecule_has_no_covariance(puppet, tmp_path):
    path = write(tmp_path / "like.txt", LIKE)
    assert "raw/fcd" not in measured(["CC", "CC"], path)
    with pytest.raises(DataError, match="two references or more"):
        measured(MADE, path, fcd_rows=1)


def test_what_is_not_installed_is_said_with_the_pip_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fcd", None)
    with pytest.raises(ConfigError, match="needs fcd, which is not installed") as caught:
        evaluators.build({"molecules": {"fcd_references": str(write(tmp_path / "like.txt", LIKE))}})
    assert caught.value.hint == 'pip install "xlm-core[fcd]"'


def test_chemnet_is_the_authors_own(tmp_path):
    fcd = pytest.importorskip("fcd")
    network = fcd.load_ref_model()
    one, other = (fcd.get_predictions(network, texts, n_jobs=0).astype(float) for texts in (DIFFERENT, LIKE))
    found = measured(MADE, write(tmp_path / "like.txt", LIKE))
    assert found["raw/fcd"].value == pytest.approx(frechet(one, other), rel=1e-4)
    long = ["C" * 349, "C" * 350, "C" * 400]
    assert np.ptp(chemnet.ChemNet(LIKE).seen(long), axis=0).max() == 0
    same = measured(LIKE, tmp_path / "like.txt")
    assert same["raw/fcd"].value == pytest.approx(0, abs=1e-6)
    assert same["raw/fcd_score"].value == pytest.approx(1, abs=1e-6)
