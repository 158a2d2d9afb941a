"""The fused vocabulary projection against torch's own cross-entropy, whole and in chunks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from xlm_core.losses import vocabulary
from xlm_core.losses.vocabulary import linear_cross_entropy, linear_logsumexp, linear_token_logits

N, D, V = 11, 5, 17


def inputs(dtype=torch.float64, scale=1.0):
    torch.manual_seed(0)
    hidden = (torch.randn(N, D, dtype=torch.float64) * scale).to(dtype).requires_grad_()
    weight = torch.randn(V, D, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(V, (N,))


@pytest.fixture(params=[1, 2 * V, 3 * V + 1, 1 << 24], ids=lambda n: f"chunk{n}")
def chunk(request, monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK_ELEMENTS", request.param)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_values_and_gradients_equal_torch(chunk, scale):
    hidden, weight, tokens = inputs(scale=scale)
    share = torch.randn(N, dtype=torch.float64)
    ours = linear_cross_entropy(hidden, weight, tokens)
    theirs = F.cross_entropy(hidden @ weight.T, tokens, reduction="none")
    assert torch.allclose(ours, theirs, atol=1e-12)
    grads = [torch.autograd.grad((loss * share).sum(), (hidden, weight)) for loss in (ours, theirs)]
    for mine, other in zip(*grads, strict=True):
        assert torch.allclose(mine, other, atol=1e-10)


def test_gradients_equal_finite_differences(chunk):
    hidden, weight, tokens = inputs()
    assert torch.autograd.gradcheck(linear_logsumexp, (hidden, weight))
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, tokens), (hidden, weight))


def test_token_logits_are_entries_of_the_product():
    hidden, weight, tokens = inputs()
    expected = (hidden @ weight.T).gather(1, tokens[:, None])[:, 0]
    assert torch.allclose(linear_token_logits(hidden, weight, tokens), expected)


def test_only_one_side_may_need_gradients(chunk):
    hidden, weight, _ = inputs()
    for frozen, trained in ((hidden, weight), (weight, hidden)):
        arguments = [frozen.detach() if x is frozen else x for x in (hidden, weight)]
        (ours,) = torch.autograd.grad(linear_logsumexp(*arguments).sum(), trained)
        (theirs,) = torch.autograd.grad((arguments[0] @ arguments[1].T).logsumexp(-1).sum(), trained)
        assert torch.allclose(ours, theirs)


def test_no_rows_at_all(chunk):
    _, weight, _ = inputs()
    empty = torch.zeros(0, D, dtype=torch.float64, requires_grad=True)
    found = linear_cross_entropy(empty, weight, torch.zeros(0, dtype=torch.int64))
    assert found.shape == (0,)
    found.sum().backward()
    assert empty.grad.shape == (0, D)
    assert (weight.grad == 0).all()


def test_extreme_logits_stay_finite(chunk):
    hidden = torch.full((2, 1), 1e4).requires_grad_()
    weight = torch.tensor([[1.0], [-1.0], [0.0]]).requires_grad_()
    found = linear_cross_entropy(hidden, weight, torch.tensor([0, 1]))
    assert found.tolist() == [0.0, 2e4]
    found.sum().backward()
    assert hidden.grad.isfinite().all()
    assert weight.grad.isfinite().all()


def test_never_more_logits_at_once_than_a_chunk(monkeypatch):
    seen = []
    monkeypatch.setattr(vocabulary, "CHUNK_ELEMENTS", 3 * V)
    original = vocabulary._logits
    monkeypatch.setattr(vocabulary, "_logits", lambda h, w: seen.append(original(h, w)) or seen[-1])
    hidden, weight, _ = inputs()
    linear_logsumexp(hidden, weight).sum().backward()
    assert max(part.numel() for part in seen) <= 3 * V
    assert sum(len(part) for part in seen) == 2 * N  # once forward, once backward


def test_autocast_computes_in_bfloat16_and_accumulates_in_float32(chunk):
    hidden, weight, tokens = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(hidden, weight, tokens)
    assert ours.dtype == torch.float32
    exact_inputs = [x.detach().bfloat16().double().requires_grad_() for x in (hidden, weight)]
    exact = F.cross_entropy(exact_inputs[0] @ exact_inputs[1].T, tokens, reduction="none")
    assert torch.allclose(ours.double(), exact, atol=4e-2)
    ours.sum().backward()
    expected = torch.autograd.grad(exact.sum(), exact_inputs)
    for mine, other in zip((hidden.grad, weight.grad), expected, strict=True):
        assert mine.dtype == torch.float32
        assert torch.allclose(mine.double(), other, atol=5e-2, rtol=5e-2)


def test_a_confident_token_has_no_negative_loss_in_bfloat16():
    torch.manual_seed(0)
    hidden, weight = torch.randn(200, 64), torch.randn(9, 64)
    tokens = (hidden.bfloat16() @ weight.bfloat16().T).argmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden * 4, weight, tokens)
    assert float(loss.min()) > -1e-6


def test_a_wide_sum_in_bfloat16_is_not_accumulated_in_bfloat16():
    """log of 30,000 equal terms: adding in bfloat16 would stop at 256 of them."""
    hidden, weight = torch.zeros(2, 4, dtype=torch.bfloat16), torch.randn(30_000, 4, dtype=torch.bfloat16)
    assert torch.allclose(linear_logsumexp(hidden, weight), torch.tensor(30_000.0).log())


def test_gradients_of_token_logits_are_summed_in_one_order():
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    hidden, weight, tokens = torch.randn(4096, 64), torch.randn(20, 64, requires_grad=True), torch.randint(20, (4096,))
    torch.set_num_threads(4)
    try:
        found = [torch.autograd.grad(linear_token_logits(hidden, weight, tokens).sum(), weight)[0] for _ in range(10)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0], other) for other in found)
