"""Attention over every combination of masks, against loops in float64; grouped queries, caches, padding and gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from xlm_core.nn import attention as module
from xlm_core.nn.attention import AttentionMask, KeyValueCache, SelfAttention, attention

B, H, D = 3, 4, 6
INF = math.inf
PATHS = ["plain", "sdpa"]


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    monkeypatch.setattr(module, "_by_hand", lambda *_: request.param == "plain")
    return request.param


def tensors(queries, keys, groups=H, dtype=torch.float64):
    torch.manual_seed(0)
    q = torch.randn(B, H, queries, D, dtype=dtype) * 2
    k, v = (torch.randn(B, groups, keys, D, dtype=dtype) for _ in range(2))
    return q, k, v


def masks(keys):
    """Valid keys (a full row, one padded on the left, one on the right) and segments of different lengths."""
    column = torch.arange(keys)
    valid = torch.stack([column >= 0, column >= 2, column < keys - 2])
    segments = torch.stack([column // 2, column // 3, column * 0])
    return valid, segments


def visible(mask, row, query, keys, queries):
    place = keys - queries + query
    return [
        key
        for key in range(keys)
        if not (mask.causal and key > place)
        and (mask.valid is None or bool(mask.valid[row, key]))
        and (mask.segments is None or int(mask.segments[row, key]) == int(mask.segments[row, place]))
    ]


def twin(q, k, v, mask):
    """Softmax attention one number at a time; NaN for a query that is padding or sees nothing."""
    queries, keys, share = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    out = torch.full_like(q, math.nan)
    for row, head, query in itertools.product(range(B), range(H), range(queries)):
        seen = visible(mask, row, query, keys, queries)
        if not seen or (mask.valid is not None and not mask.valid[row, keys - queries + query]):
            continue
        group = head // share
        scores = [math.exp((q[row, head, query] @ k[row, group, key]).item() / math.sqrt(D)) for key in seen]
        out[row, head, query] = sum(s / sum(scores) * v[row, group, key] for s, key in zip(scores, seen, strict=True))
    return out


@pytest.mark.parametrize("causal, padded, packed", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("queries, keys", [(7, 7), (3, 7), (1, 7), (1, 1)])
@pytest.mark.parametrize("groups", [H, 2, 1])
def test_every_mask_equals_the_loops(path, causal, padded, packed, queries, keys, groups):
    valid, segments = masks(keys)
    mask = AttentionMask(causal, valid if padded else None, segments if packed else None)
    q, k, v = tensors(queries, keys, groups)
    found, expected = attention(q, k, v, mask), twin(q, k, v, mask)
    defined = expected.isfinite()
    assert torch.allclose(found[defined], expected[defined], atol=1e-12)
    assert found.isfinite().all()


@pytest.mark.parametrize("packed", [False, True])
def test_every_causal_query_sees_a_key(packed):
    """Kernels differ in what they make of one that sees none; ours never do."""
    valid, segments = masks(7)
    for queries in (7, 3):
        seen = AttentionMask(True, valid, segments if packed else None).dense(queries, 7, valid.device)
        assert seen.shape == (B, 1, queries, 7)
        assert seen.any(-1).all()


def test_no_mask_is_full_attention(path):
    q, k, v = tensors(5, 7)
    assert torch.allclose(attention(q, k, v), twin(q, k, v, AttentionMask()), atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_padding_alone_stay_finite_forward_and_backward(path, causal, dtype):
    q, k, v = (x.requires_grad_() for x in tensors(5, 5, dtype=dtype))
    valid = torch.ones(B, 5, dtype=torch.bool)
    valid[1] = False
    valid[2, :3] = False
    out = attention(q, k, v, AttentionMask(causal, valid))
    out.float().square().sum().backward()
    assert out.isfinite().all()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


def test_padding_gets_no_gradient_and_gives_no_value(path):
    q, k, v = (x.requires_grad_() for x in tensors(6, 6))
    valid = torch.arange(6) >= torch.tensor([0, 2, 4])[:, None]
    out = attention(q, k, v, AttentionMask(True, valid))
    out[valid[:, None].expand(-1, H, -1)].square().sum().backward()
    padding = ~valid[:, None].expand(-1, H, -1)
    assert (k.grad[padding] == 0).all()
    assert (v.grad[padding] == 0).all()
    assert (k.grad[~padding].abs().sum(-1) > 0).any()


@pytest.mark.parametrize(
    "mask_of", [lambda v, s: None, lambda v, s: AttentionMask(True), lambda v, s: AttentionMask(True, v, s)]
)
def test_gradients_of_the_plain_path_are_those_of_finite_differences(monkeypatch, mask_of):
    monkeypatch.setattr(module, "_by_hand", lambda *_: True)
    q, k, v = (x[:, :2, :4, :2].contiguous().requires_grad_() for x in tensors(4, 4))
    valid, segments = masks(4)
    assert torch.autograd.gradcheck(lambda *x: attention(*x, mask_of(valid, segments)), (q, k, v))


@pytest.mark.parametrize("mask_of", [lambda v, s: None, lambda v, s: AttentionMask(True), lambda v, s: AttentionMask(False, v)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_the_two_paths_agree(monkeypatch, mask_of, dtype, tolerance):
    mask = mask_of(*masks(9))
    results = []
    for plain in (True, False):
        monkeypatch.setattr(module, "_by_hand", lambda *_, plain=plain: plain)
        inputs = [x.requires_grad_() for x in tensors(9, 9, dtype=dtype)]
        out = attention(*inputs, mask)
        out.float().square().sum().backward()
        results.append([out, *(x.grad for x in inputs)])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).float().norm() < tolerance * theirs.float().norm()


def test_plain_path_agrees_with_torch_of_the_whole_range_that_it_serves():
    for keys in (1, 64, 65, 300):
        q, k, v = tensors(keys, keys, dtype=torch.float32)
        assert torch.allclose(attention(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-5)


def test_huge_scores_do_not_overflow(path):
    q, k, v = tensors(5, 5, dtype=torch.float32)
    found = attention(q * 1e4, k, v)
    best = (q @ k.transpose(-1, -2)).argmax(-1)
    assert torch.allclose(found, v.gather(2, best[..., None].expand(-1, -1, -1, D)), atol=1e-4)


def test_dropout_drops_weights_and_keeps_their_mean():
    q, k = torch.zeros(1, 1, 2000, D), torch.zeros(1, 1, 32, D)
    v = torch.eye(32)[None, None]
    torch.manual_seed(0)
    out = attention(q, k, v, dropout=0.25)[0, 0] * 32  # each number is a dropped (0) or kept (4/3) weight
    assert set(out.mul(3).round().unique().tolist()) == {0.0, 4.0}
    n = out.numel()
    assert abs(float((out == 0).double().mean()) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / n)


def test_layer_drops_only_in_training():
    torch.manual_seed(0)
    layer, x = SelfAttention(16, 2, dropout=0.5), torch.randn(2, 5, 16)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("kv_heads", [None, 2, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_equals_its_formula(kv_heads, bias):
    torch.manual_seed(0)
    layer = SelfAttention(24, H, kv_heads=kv_heads, bias=bias).double()
    x = torch.randn(B, 5, 24, dtype=torch.float64)
    groups = kv_heads or H
    names = torch.split(layer.qkv.weight, [24, groups * D, groups * D])
    biases = torch.split(layer.qkv.bias, [24, groups * D, groups * D]) if bias else (None, None, None)
    q, k, v = (F.linear(x, w, b).view(B, 5, -1, D).transpose(1, 2) for w, b in zip(names, biases, strict=True))
    expected = F.linear(twin(q, k, v, AttentionMask(True)).transpose(1, 2).reshape(B, 5, 24), layer.out.weight)
    assert torch.allclose(layer(x, mask=AttentionMask(True)), expected, atol=1e-12)
    assert layer.out.bias is None


@pytest.mark.parametrize("chunks", [(1,) * 6, (3, 1, 2), (6,)])
def test_cached_steps_equal_one_pass(chunks):
    torch.manual_seed(0)
    layer = SelfAttention(24, H, kv_heads=2).double()
    x, valid = torch.randn(B, 6, 24, dtype=torch.float64), masks(6)[0]
    whole = layer(x, mask=AttentionMask(True, valid))
    cache = KeyValueCache(B, 2, 8, D, device=x.device, dtype=x.dtype)
    parts, end = [], 0
    for part in x.split(list(chunks), dim=1):
        end += part.shape[1]
        parts.append(layer(part, mask=AttentionMask(True, valid[:, :end]), cache=cache))
    real = valid[..., None].expand(-1, -1, 24)
    assert torch.allclose(torch.cat(parts, 1)[real], whole[real], atol=1e-12)
    assert cache.length == 6


def test_cache_keeps_rows_in_the_order_asked():
    torch.manual_seed(0)
    cache = KeyValueCache(3, 2, 4, D, device=torch.device("cpu"), dtype=torch.float32)
    first, second = torch.randn(3, 2, 2, D), torch.randn(2, 2, 1, D)
    cache.append(first, -first)
    cache.keep(torch.tensor([2, 0]))
    keys, values = cache.append(second, -second)
    assert torch.equal(keys, torch.cat([first[[2, 0]], second], 2))
    assert torch.equal(values, -keys)
