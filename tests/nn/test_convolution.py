"""The convolution over embeddings against sums written out, for every kind of mask, and in pieces. Padding, packing, caching
and leaks in a whole network: test_transformer.py."""

from __future__ import annotations

import itertools

import pytest
import torch

from xlm_core.nn.attention import AttentionMask
from xlm_core.nn.convolution import EmbeddingCache, EmbeddingConvolution

B, L, D = 2, 6, 3
VALID = torch.tensor([[True] * 6, [False, True, True, True, True, False]])
SEGMENTS = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2]])


def written_out(layer, x, mask):
    """One product for each pair of columns that may see each other."""
    taps = dict(zip([o for o in range(-layer.reach, layer.reach + 1) if o], layer.mix.weight.split(D, dim=1), strict=True))
    y = x.clone()
    for row, here, (offset, weight) in itertools.product(range(B), range(L), taps.items()):
        there = here + offset
        seen = 0 <= there < L and not (mask.causal and offset > 0)
        seen = seen and (mask.valid is None or bool(mask.valid[row, there]))
        if seen and (mask.segments is None or mask.segments[row, there] == mask.segments[row, here]):
            y[row, here] += weight @ x[row, there]
    return y


def build(reach):
    torch.manual_seed(0)
    return EmbeddingConvolution(D, reach).double(), torch.randn(B, L, D, dtype=torch.float64)


@pytest.mark.parametrize("reach", [1, 2, 7])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("valid", [None, VALID], ids=["full", "padded"])
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one", "packed"])
def test_it_adds_the_neighbours_that_may_be_seen(reach, causal, valid, segments):
    layer, x = build(reach)
    mask = AttentionMask(causal, valid, segments)
    assert torch.allclose(layer(x, mask), written_out(layer, x, mask), atol=1e-12)


@pytest.mark.parametrize("reach", [1, 2, 7])
@pytest.mark.parametrize("widths", [(1,) * L, (2, 1, 3), (4, 2)])
def test_in_pieces_with_a_cache_it_is_the_same_and_rows_may_leave(reach, widths):
    layer, x = build(reach)
    whole, cache, end = layer(x, AttentionMask(True, VALID)), EmbeddingCache(reach), 0
    rows = torch.tensor([0, 1])
    for step, part in enumerate(x.split(list(widths), dim=1)):
        begin, end = end, end + part.shape[1]
        if step == 1:
            rows = torch.tensor([1])
            cache.keep(rows)
        found = layer(part[rows], AttentionMask(True, VALID[rows, :end]), cache)
        assert torch.allclose(found, whole[rows, begin:end], atol=1e-12)
