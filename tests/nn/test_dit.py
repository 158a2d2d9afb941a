"""The diffusion transformer against a twin that is written out in numpy, and what it must be at initialisation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from xlm_core.config import DiTConfig
from xlm_core.errors import ConfigError
from xlm_core.nn.attention import AttentionMask
from xlm_core.nn.dit import DiT, ModulatedNorm, sinusoidal

V, HEADS = 20, 2
IDS = torch.tensor([[5, 6, 7, 8, 9, 3], [11, 12, 1, 4, 4, 2]])
TIMES = torch.tensor([0.3, 5.0], dtype=torch.float64)


def build(*, trained=True, **changes):
    """In float64; `trained` moves all parameters away from zero, so that everything matters."""
    torch.manual_seed(0)
    cfg = DiTConfig(**{"dim": 16, "layers": 3, "heads": HEADS, "hidden": 24, "conditioning_dim": 8, "rotary_dims": 4} | changes)
    network = DiT(cfg, V).double().eval()
    if trained:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return network


def _norm(x, gain):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * gain


def _silu(x):
    return x / (1 + np.exp(-x))


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _turn(x, position, dims):
    """Rotate the pairs (i, i + dims / 2) of one head's vector."""
    out = x.copy()
    for i in range(dims // 2):
        angle = position * 10000.0 ** (-2 * i / dims)
        a, b = x[i], x[i + dims // 2]
        out[i], out[i + dims // 2] = a * math.cos(angle) - b * math.sin(angle), b * math.cos(angle) + a * math.sin(angle)
    return out


def _twin(network, ids, time, visible, *, residual, rotary_dims, learned, reach):
    """One row, one token at a time, as the paper has it."""
    w = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
    features = [f(time * 10000.0 ** (-i / 128)) for f in (math.cos, math.sin) for i in range(128)]
    c = _silu(w["condition.layers.0.weight"] @ np.array(features) + w["condition.layers.0.bias"])
    c = _silu(w["condition.layers.2.weight"] @ c + w["condition.layers.2.bias"])
    dim = w["embedding.weight"].shape[1]
    head_dim = dim // HEADS
    tokens = [w["embedding.weight"][token] for token in ids]
    xs = [token + (w["places.weight"][n] if learned else 0) for n, token in enumerate(tokens)]
    for n, tap in itertools.product(range(len(ids)), range(2 * reach)):
        other = n + tap - reach + (tap >= reach)
        if 0 <= other < len(ids) and visible[other]:
            xs[n] = xs[n] + w["convolution.mix.weight"][:, tap * dim : (tap + 1) * dim] @ tokens[other]
    for layer in range(3):
        block = {name.removeprefix(f"blocks.{layer}."): value for name, value in w.items() if f"blocks.{layer}." in name}
        here = slice(layer * 6 * dim, (layer + 1) * 6 * dim)
        parts = (w["modulation.weight"][here] @ c + w["modulation.bias"][here]).reshape(6, dim)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = parts
        ys = [_norm(x, block["attention_norm.weight"]) * (1 + scale_1) + shift_1 for x in xs]
        qkv = [(block["attention.qkv.weight"] @ y).reshape(3, HEADS, head_dim) for y in ys]
        for n, x in enumerate(list(xs)):
            heads = []
            for h in range(HEADS):
                query = _turn(qkv[n][0, h], n, rotary_dims)
                keys = [_turn(other[1, h], m, rotary_dims) for m, other in enumerate(qkv)]
                scores = np.array([query @ key / math.sqrt(head_dim) for key in keys])
                weights = np.exp(scores) * visible
                heads.append(weights / weights.sum() @ np.array([other[2, h] for other in qkv]))
            stream = x if residual == "input" else ys[n]
            x = stream + gate_1 * (block["attention.out.weight"] @ np.concatenate(heads))
            z = _norm(x, block["mlp_norm.weight"]) * (1 + scale_2) + shift_2
            inner = _gelu(block["mlp.0.weight"] @ z + block["mlp.0.bias"])
            xs[n] = x + gate_2 * (block["mlp.2.weight"] @ inner + block["mlp.2.bias"])
    shift, scale = (w["final_norm.modulation.weight"] @ c + w["final_norm.modulation.bias"]).reshape(2, dim)
    return np.array([_norm(x, w["final_norm.norm.weight"]) * (1 + scale) + shift for x in xs])


@pytest.mark.parametrize("learned, reach", [(0, 0), (6, 0), (0, 2)])
@pytest.mark.parametrize("residual", ["input", "normalised"])
def test_it_is_the_network_of_the_definition(residual, learned, reach):
    network = build(residual=residual, learned_positions=learned, conv_reach=reach)
    valid = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    with torch.no_grad():
        found = network(IDS, TIMES, mask=AttentionMask(valid=valid))
    for n in range(2):
        visible, sizes = valid[n].numpy(), {"rotary_dims": 4, "learned": learned, "reach": reach}
        twin = _twin(network, IDS[n].tolist(), TIMES[n].item(), visible, residual=residual, **sizes)
        torch.testing.assert_close(found[n], torch.from_numpy(twin), rtol=1e-5, atol=1e-5)  # angles are float32


def test_the_two_wirings_have_the_same_parameters_and_different_values():
    published, other = build(), build(residual="normalised")
    other.load_state_dict(published.state_dict())
    assert (published(IDS, TIMES) - other(IDS, TIMES)).abs().max() > 0.1


def test_at_first_every_token_is_equally_probable_and_blocks_add_nothing():
    network = build(trained=False)
    hidden = network(IDS, TIMES)
    expected = F.layer_norm(network.embedding(IDS), (16,))
    torch.testing.assert_close(hidden, expected)
    assert (network.head(hidden) == 0).all()
    zero = {name for name, p in network.named_parameters() if (p == 0).all()}
    assert zero == {
        "modulation.weight",
        "modulation.bias",
        "head.weight",
        "final_norm.modulation.weight",
        "final_norm.modulation.bias",
    }


def test_with_the_other_wiring_a_fresh_block_normalises():
    network = build(trained=False, residual="normalised")
    x = network.embedding(IDS)
    for _ in range(4):
        x = F.layer_norm(x, (16,))
    torch.testing.assert_close(network(IDS, TIMES), x)


def test_layers_start_different_from_each_other():
    blocks = [dict(block.named_parameters()) for block in build(trained=False).blocks]
    for first, second in itertools.combinations(blocks, 2):
        for name, weight in first.items():
            if weight.ndim == 2:
                correlation = torch.corrcoef(torch.stack([weight.flatten(), second[name].flatten()]))[0, 1]
                assert abs(correlation.item()) < 5 / math.sqrt(weight.numel()), name


def test_every_parameter_learns():
    """None is cut off: a step along its gradient changes the loss. Zero-initialised gates let go after one step."""
    network = build(learned_positions=6)
    network.head(network(IDS, TIMES)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_the_condition_is_each_rows_own():
    network = build()
    both = network(IDS[:1].expand(2, -1), TIMES)
    torch.testing.assert_close(both[1:], network(IDS[:1], TIMES[1:]))
    assert (both[0] - both[1]).abs().max() > 0.1
    torch.testing.assert_close(network(IDS), network(IDS, torch.zeros(2, dtype=torch.float64)))


def test_padding_changes_nothing():
    network = build()
    short = network(IDS[:, :4], TIMES)
    valid = (torch.arange(6) < 4).expand(2, 6)
    torch.testing.assert_close(network(IDS, TIMES, mask=AttentionMask(valid=valid))[:, :4], short)


def test_rotary_positions_are_relative():
    network = build()
    shifted = network(IDS, TIMES, positions=torch.arange(6) + 100)
    torch.testing.assert_close(network(IDS, TIMES), shifted, rtol=1e-4, atol=1e-4)
    swapped = network(IDS, TIMES, positions=torch.tensor([1, 0, 2, 3, 4, 5]))
    assert (network(IDS, TIMES) - swapped).abs().max() > 0.01


def test_sinusoidal_features():
    found = sinusoidal(torch.tensor([0.0, 3.5]), 8)
    expected = [f(3.5 * 10000.0 ** (-i / 4)) for f in (math.cos, math.sin) for i in range(4)]
    assert found[1].tolist() == pytest.approx(expected, abs=1e-6)
    assert found[0].tolist() == [1.0] * 4 + [0.0] * 4


def test_other_heads_can_normalise_the_trunk_themselves():
    network = build()
    conditioning = network.conditioning(TIMES)
    trunk = network.trunk(IDS, conditioning)
    torch.testing.assert_close(network.final_norm(trunk, conditioning), network(IDS, TIMES))
    torch.testing.assert_close(ModulatedNorm(16, 8).double()(trunk, conditioning), F.layer_norm(trunk, (16,)))


def test_dropout_is_of_what_blocks_add_and_in_training_only():
    network = build(dropout=0.5)
    assert torch.equal(network(IDS, TIMES), network(IDS, TIMES))
    network.train()
    assert not torch.equal(network(IDS, TIMES), network(IDS, TIMES))
    fresh = build(trained=False, dropout=0.5).train()
    torch.testing.assert_close(fresh(IDS, TIMES), F.layer_norm(fresh.embedding(IDS), (16,)))


def test_bfloat16_autocast_is_close():
    network = build().float()
    exact = network(IDS, TIMES.float())
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(IDS, TIMES.float())
    assert (exact - rough).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("changes", [{"dim": 15}, {"heads": 3}, {"activation": "swish"}, {"residual": "none"}])
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ConfigError, match="model"):
        build(**changes)


def test_initial_weights_have_the_deviation_that_is_asked_for():
    torch.manual_seed(0)
    cfg = DiTConfig(dim=64, layers=2, heads=2, learned_positions=100, conv_reach=1, init_std=0.1)
    model = DiT(cfg, vocab_size=200)
    block = model.blocks[1]
    for weight in (model.embedding.weight, model.places.weight, model.convolution.mix.weight, block.mlp[0].weight):
        assert weight.std().item() == pytest.approx(0.1, rel=0.05)
    for weight in (block.attention.out.weight, block.mlp[2].weight):
        assert weight.std().item() == pytest.approx(0.1 / 4**0.5, rel=0.05)
    assert not any(part.weight.any() for part in (model.modulation, model.head, model.final_norm.modulation))
