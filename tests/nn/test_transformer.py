"""The rotary transformer: initial weights, padding, caches, and who sees whom."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from xlm_core.canvas import pad, positions
from xlm_core.config import TransformerConfig
from xlm_core.errors import ConfigError
from xlm_core.nn.attention import AttentionMask
from xlm_core.nn.transformer import RotaryTransformer

V, PAD = 30, 0
ROWS = [[5, 6, 7, 8, 9], [11, 12], [20], [3, 4, 5, 6]]


def build(**changes):
    torch.manual_seed(0)
    cfg = TransformerConfig(**{"dim": 32, "layers": 3, "heads": 4, "dropout": 0.0, "rotary_dims": 8} | changes)
    return RotaryTransformer(cfg, V, PAD).double().eval()


@pytest.fixture(
    params=[{}, {"learned_positions": 16}, {"conv_reach": 2, "rotary_dims": 0}], ids=["rotary", "both", "convolution"]
)
def model(request):
    """With weights so large that every token matters, and positions of each kind."""
    network = build(**request.param)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    return network


def test_layers_start_different_from_each_other():
    blocks = [dict(block.named_parameters()) for block in build().blocks]
    for first, second in itertools.combinations(blocks, 2):
        for name, weight in first.items():
            if weight.ndim == 2:
                correlation = torch.corrcoef(torch.stack([weight.flatten(), second[name].flatten()]))[0, 1]
                assert abs(correlation.item()) < 5 / math.sqrt(weight.numel()), name


@pytest.mark.parametrize("layers, std", [(1, 0.02), (4, 0.1)])
def test_initial_deviations(layers, std):
    network = build(dim=64, layers=layers, init_std=std)
    for name, weight in network.named_parameters():
        if weight.ndim != 2:
            continue
        expected = std / math.sqrt(2 * layers) if name.endswith(("attention.out.weight", "mlp.2.weight")) else std
        used = weight[1:] if name == "embedding.weight" else weight
        assert used.std().item() == pytest.approx(expected, rel=5 / math.sqrt(used.numel())), name
    assert (network.embedding.weight[PAD] == 0).all()
    assert all((p == 0).all() for name, p in network.named_parameters() if name.endswith("bias"))


def test_pads_keep_a_zero_embedding(model):
    ids = torch.tensor([[5, PAD, 6]])
    model(ids).sum().backward()
    assert (model.embedding.weight.grad[PAD] == 0).all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("width", [5, 9])
def test_a_row_alone_equals_the_row_padded_in_a_batch(model, causal, side, width):
    canvas = pad(ROWS, PAD, width=width, side=side)
    batch = model(canvas.ids, positions(canvas.mask), AttentionMask(causal, canvas.mask))
    assert batch.isfinite().all()
    for row, states, mask in zip(ROWS, batch, canvas.mask, strict=True):
        alone = model(torch.tensor([row]), mask=AttentionMask(causal))[0]
        assert torch.allclose(states[mask], alone, atol=1e-10)


def test_rotary_positions_count_by_their_distances():
    model, ids = build(), torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)
    plain = model(ids)
    assert torch.allclose(plain, model(ids, torch.arange(4)[None] + 100), atol=1e-4)
    assert not torch.allclose(plain, model(ids, torch.tensor([[0, 1, 5, 6]])), atol=1e-2)


def test_documents_of_a_packed_row_do_not_see_each_other(model):
    segments = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2, 2]])
    parts = [[5, 6, 7], [11, 12], [3, 4, 5, 6, 8]]
    place = torch.tensor([[0, 1, 2, 0, 1, 0, 1, 2, 3, 4]])
    packed = model(torch.tensor([[token for part in parts for token in part]]), place, AttentionMask(segments=segments))[0]
    alone = torch.cat([model(torch.tensor([part]))[0] for part in parts])
    assert torch.allclose(packed, alone, atol=1e-10)


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (3, 2), (4, 1)])
def test_cached_equals_uncached(model, chunks):
    canvas = pad(ROWS, PAD, side="left")
    place = positions(canvas.mask)
    whole = model(canvas.ids, place, AttentionMask(True, canvas.mask))
    caches, parts, end = model.new_caches(len(ROWS), 5), [], 0
    for count in chunks:
        part = slice(end, end + count)
        end += count
        parts.append(model(canvas.ids[:, part], place[:, part], AttentionMask(True, canvas.mask[:, :end]), caches))
    assert torch.allclose(torch.cat(parts, 1)[canvas.mask], whole[canvas.mask], atol=1e-10)


def leaks(model, mask, length):
    """(Q, K) bool: whether the state of column q depends on the embedding of column k."""
    found = []
    for query in range(length):
        kept = []
        hook = model.embedding.register_forward_hook(
            lambda _, __, out, kept=kept: kept.append(out.detach().requires_grad_()) or kept[0]
        )
        states = model(torch.arange(3, 3 + length)[None], mask=mask)
        hook.remove()
        (grad,) = torch.autograd.grad(states[0, query].square().sum(), kept[0])
        found.append((grad[0] != 0).any(-1))
    return torch.stack(found)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_gradients_flow_exactly_where_the_mask_lets_them(model, causal, packed, padded):
    length = 6
    valid = torch.tensor([[True] * 4 + [False] * 2]) if padded else None
    segments = torch.tensor([[0, 0, 1, 1, 1, 1]]) if packed else None
    column = torch.arange(length)
    allowed = torch.ones(length, length, dtype=torch.bool)
    if causal:
        allowed &= column[:, None] >= column
    if packed:
        allowed &= segments[0][:, None] == segments[0]
    if padded:
        allowed &= valid[0]
    found = leaks(model, AttentionMask(causal, valid, segments), length)
    real = valid[0] if padded else torch.ones(length, dtype=torch.bool)
    assert torch.equal(found[real], (allowed | torch.eye(length, dtype=torch.bool))[real])


def test_learned_positions_are_added_to_the_tokens():
    network = build(learned_positions=8, rotary_dims=0)
    ids = torch.tensor([[5, 6, 7]])
    place = torch.tensor([[2, 0, 5]])
    expected = build(learned_positions=8, rotary_dims=0)
    with torch.no_grad():
        shifted = network.embedding(ids) + network.places(place)
        expected.embedding.weight[[5, 6, 7]] = shifted[0] - expected.places(torch.arange(3))
    assert torch.allclose(network(ids, place), expected(ids), atol=1e-12)


def test_attention_without_any_positions_is_blind_to_order():
    network = build(rotary_dims=0)
    there, back = network(torch.tensor([[5, 6, 7]])), network(torch.tensor([[7, 6, 5]]))
    assert torch.allclose(there, back.flip(1), atol=1e-12)


@pytest.mark.parametrize("final_norm", [False, True])
def test_final_norm_is_there_when_asked_for(final_norm):
    states = build(final_norm=final_norm)(torch.tensor([[5, 6, 7]]))
    assert torch.allclose(states.mean(-1), torch.zeros(1, 3, dtype=torch.float64), atol=1e-6) == final_norm


@pytest.mark.parametrize(
    "activation, twin",
    [
        ("relu", lambda x: x * (x > 0)),
        ("gelu", lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2),
        ("gelu_tanh", lambda x: x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2),
    ],
)
def test_a_block_is_its_formula(activation, twin):
    network = build(activation=activation, layers=1, hidden=40, rotary_dims=0, final_norm=False)
    (block,), ids = network.blocks, torch.tensor([[5, 6, 7]])
    x = network.embedding(ids)
    x = x + block.attention(F.layer_norm(x, (32,)))
    x = x + block.mlp[2](twin(block.mlp[0](F.layer_norm(x, (32,)))))
    assert torch.allclose(network(ids), x, atol=1e-12)
    assert block.mlp[0].weight.shape == (40, 32)


def test_dropout_is_active_only_in_training():
    network, ids = build(dropout=0.5), torch.tensor([[5, 6, 7]])
    assert torch.equal(network(ids), network(ids))
    network.train()
    assert not torch.equal(network(ids), network(ids))


def test_a_row_longer_than_the_learned_positions_is_refused():
    network = build(learned_positions=4)
    assert network(torch.ones(1, 4, dtype=torch.int64)).isfinite().all()
    with pytest.raises(ConfigError, match="rows of 5 tokens need as many learned positions, and there are 4"):
        network(torch.ones(1, 5, dtype=torch.int64))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dim": 30}, "30 does not split into 4 heads"),
        ({"dim": 12}, "even size"),
        ({"activation": "x"}, "'x'"),
        ({"rotary_dims": 3}, "rotary_dims=3 is odd"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(**changes)


def test_caches_have_the_dtype_that_autocast_computes_in():
    network = build().float()
    assert network.new_caches(1, 4).layers[0].append(*torch.zeros(2, 1, 4, 1, 8))[0].dtype == torch.float32
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.autocast("cpu", torch.bfloat16):
        whole = network(ids, mask=AttentionMask(True))
        caches = network.new_caches(1, 4)
        steps = [network(ids[:, [i]], torch.tensor([[i]]), AttentionMask(True), caches) for i in range(4)]
    assert torch.allclose(torch.cat(steps, 1).float(), whole.float(), atol=3e-2)
