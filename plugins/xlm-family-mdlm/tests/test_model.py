"""The network: SUBS, what it may see, and what it reads of the time."""

from __future__ import annotations

import math

import pytest
import torch
from xlm_family_mdlm.config import ModelConfig
from xlm_family_mdlm.model import MdlmModel, readable

P, M, E = 0, 2, 3
IDS = torch.tensor([[7, M, 9, M, E], [M, M, 12, 8, M]])


@torch.no_grad()
@pytest.mark.parametrize("push", [0.0, 40.0])
def test_the_mask_is_never_predicted_and_visible_tokens_stay(network, push):
    """However much the network would like to predict the mask."""
    network.head.weight[M] += push * network.final_norm.modulation.bias[: network.head.in_features].sign()
    log_probs = network(IDS)
    assert (log_probs[..., M] == -torch.inf).all()
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 5, dtype=torch.float64), check_dtype=False)
    hidden = IDS != M
    assert torch.equal(log_probs.argmax(-1)[hidden], IDS[hidden])
    assert (log_probs.max(-1).values[hidden] == 0).all()
    assert (log_probs[~hidden].max(-1).values < 0).all()


def _written_out(row, start):
    """Columns up to the first EOS, or before the first padding, from `start` on."""
    for n in range(start, len(row)):
        if row[n] in (E, P):
            return n + (row[n] == E)
    return len(row)


def test_a_row_is_read_up_to_its_visible_end(specials):
    tokens = torch.tensor([P, M, E, 7, 8])
    ids = tokens[torch.randint(5, (500, 6), generator=torch.Generator().manual_seed(0))]
    start = torch.arange(500) % 7
    lengths = torch.tensor([_written_out(row, s) for row, s in zip(ids.tolist(), start.tolist(), strict=True)])
    assert torch.equal(readable(ids, start, specials), torch.arange(6) < lengths[:, None])
    assert len(set(lengths.tolist())) == 7


@torch.no_grad()
def test_what_is_behind_the_end_changes_nothing(network, specials):
    ids = torch.tensor([[7, M, M, E, P, P], [7, M, M, E, M, 9], [7, M, M, E, 8, 8]])
    valid = readable(ids, torch.zeros(3, dtype=torch.long), specials)
    states = network.hidden(ids, valid)[:, :4]
    torch.testing.assert_close(states[0], states[1])
    torch.testing.assert_close(states[0], states[2])
    alone = network.hidden(ids[:1, :4], None)[0]
    torch.testing.assert_close(states[0], alone)
    longer = torch.tensor([[7, M, M, M, M, M]])
    assert (network.hidden(longer, None)[0, :4] - alone).abs().max() > 1e-3


@torch.no_grad()
def test_columns_see_both_sides(network):
    states = network(IDS)[0, 1]
    for column in (0, 2, 3, 4):
        changed = IDS.clone()
        changed[0, column] = 10
        assert (network(changed)[0, 1] - states).abs().nan_to_num().max() > 1e-6


@torch.no_grad()
def test_the_time_is_read_only_by_a_network_that_is_conditioned_on_it(build_network):
    noise = torch.tensor([0.2, 0.9], dtype=torch.float64)
    free = build_network()
    assert torch.equal(free.hidden(IDS, None, noise), free.hidden(IDS, None, noise.flip(0)))
    assert torch.equal(free.hidden(IDS, None, noise), free.hidden(IDS))
    timed = build_network(time_conditioning=True)
    assert (timed.hidden(IDS, None, noise) - timed.hidden(IDS, None, noise.flip(0))).abs().max() > 1e-2
    assert torch.isfinite(timed.hidden(IDS, None, torch.tensor([0.0, 1.0], dtype=torch.float64))).all()
    with pytest.raises(ValueError, match="noise level"):
        timed.hidden(IDS)


@torch.no_grad()
def test_the_time_is_read_as_the_total_noise(build_network, monkeypatch):
    timed = build_network(time_conditioning=True)
    read = []
    embed = timed.condition.forward
    monkeypatch.setattr(timed.condition, "forward", lambda x: read.append(x) or embed(x))
    timed.hidden(IDS, None, torch.tensor([0.2, 1.0], dtype=torch.float64))
    assert read[0].tolist() == pytest.approx([-math.log(1 - 0.999 * 0.2), -math.log(1e-3)])


@torch.no_grad()
@pytest.mark.parametrize("stage", ["lm", "packed"])
def test_masked_columns_are_told_apart_by_their_place(network, batch_of, stage):
    """Attention over equal states is the same wherever they are: without a BOS, all would have one and the same prediction."""
    if stage == "lm":
        batch = batch_of("lm", "predict", input_ids=[[]])
    else:
        batch = batch_of("lm", input_ids=[[M] * 6], segment_ids=[[0] * 6])
    states = network.hidden(batch["input_ids"])[0]
    apart = torch.pdist(states[batch["free"][0]])
    assert apart.min() > 1e-3
    bare = network.hidden(batch["input_ids"][:, 1:])[0]
    assert torch.pdist(bare).max() < 1e-9


@torch.no_grad()
@pytest.mark.parametrize("learned", [0, 8])
def test_documents_of_a_packed_row_do_not_see_each_other(build_network, batch_of, learned):
    network = build_network(learned_positions=learned)
    batch = batch_of("lm", input_ids=[[7, M, E, 9, M, M, E], [M, E]], segment_ids=[[0] * 3 + [1] * 4, [0, 0]], length=7)
    states = network.hidden(batch["input_ids"], segment_ids=batch["segment_ids"], positions=batch["positions"])
    for row, columns in ((0, slice(0, 4)), (0, slice(4, 9)), (1, slice(0, 3))):
        alone = network.hidden(batch["input_ids"][row, columns][None])[0]
        torch.testing.assert_close(states[row, columns], alone)


def test_a_fresh_network_predicts_every_token_but_the_mask_alike(tokenizer, specials):
    model = MdlmModel(ModelConfig(dim=16, layers=1, heads=2), len(tokenizer), specials).eval()
    log_probs = model(IDS)[IDS == M]
    assert log_probs[:, M].exp().sum() == 0
    rest = log_probs[:, [n for n in range(len(tokenizer)) if n != M]]
    torch.testing.assert_close(rest, torch.full_like(rest, -math.log(len(tokenizer) - 1)))
