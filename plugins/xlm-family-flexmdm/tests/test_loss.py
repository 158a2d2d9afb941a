"""The loss against one that is written out row by row, without padding, fusion or batch."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from xlm_family_flexmdm import noising
from xlm_family_flexmdm.config import LossConfig, ModelConfig, ScheduleConfig
from xlm_family_flexmdm.loss import STREAM, FlexmdmLoss
from xlm_family_flexmdm.model import FlexmdmModel

from xlm_core.errors import ConfigError
from xlm_core.noise.times import low_discrepancy
from xlm_core.sampling.random import RowRandom

MASK, EOS, BOS = 2, 3, 4
PAIRS = {"prompt_ids": [[7, 8], [9], [10, 11, 12], []], "input_ids": [[8, 9, 10, 11], [], [12, 12, 7, 8, 9, 10], [9]]}
HOLES = {"prompt_ids": [[7, MASK, MASK, 10], [MASK, 8, 9, MASK], [7, 8]], "input_ids": [[7, 8, 9, 10], [7, 8, 9, 10], [7, 8]]}
HAZARDS = {
    "Linear": lambda t: 1 / (1 - t),
    "Sine": lambda t: math.pi / 2 * math.cos(math.pi * t / 2) / (1 - math.sin(math.pi * t / 2)),
    "Cosine": lambda t: math.pi / 2 * math.tan(math.pi * t / 2),
}


@pytest.fixture
def loss_of(network):
    def make(model=network, **options):
        return FlexmdmLoss(LossConfig(**options), model)

    return make


def _written_out(model, batch, time, density_inverse, seed):
    """(loss, unmask, insertion, nll) of each row, one event at a time."""
    random = RowRandom(seed, batch["draw"], 1)
    shape = (batch["free"].shape[1],)
    fate = noising.fates(
        model.insertion, model.unmasking, time, batch["free"], random.uniform(0, shape), random.uniform(1, shape)
    )
    rows = []
    for row in range(len(time)):
        length = int(batch["attention_mask"][row].sum())
        kept = [c for c in range(length) if not fate.absent[row, c]]
        ids = torch.tensor([[MASK if fate.masked[row, c] else int(batch["input_ids"][row, c]) for c in kept]])
        logits, log_mean = model(ids, time[row : row + 1], torch.ones_like(ids, dtype=torch.bool))
        t = float(time[row])
        reveal, insert = (
            float(density_inverse[row]) * HAZARDS[type(a).__name__](t) for a in (model.unmasking, model.insertion)
        )
        unmask = insertion = rate = 0.0
        for place, column in enumerate(kept):
            if fate.masked[row, column]:
                unmask -= reveal * float(logits[0, place].detach().log_softmax(-1)[batch["input_ids"][row, column]])
            if batch["open"][row, column]:
                missing, mean = column - (kept[place - 1] if place else -1) - 1, math.exp(float(log_mean[0, place].detach()))
                insertion += insert * (mean - missing + (missing * math.log(missing / mean) if missing else 0.0))
                rate += insert * (mean - missing * math.log(mean))
        rows.append((unmask + insertion, unmask, insertion, unmask + rate - int(batch["free"][row].sum())))
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("layout, columns", [("seq2seq", PAIRS), ("infill", HOLES), ("lm", {"input_ids": PAIRS["input_ids"]})])
@pytest.mark.parametrize(
    "insertion, unmasking, power", [("linear", "linear", 1.0), ("linear", "linear", 2.0), ("sin", "cosine", 2.0)]
)
def test_it_is_the_sum_over_events(build_network, loss_of, batch_of, layout, columns, insertion, unmasking, power):
    network = build_network(insertion=ScheduleConfig(insertion), unmasking=ScheduleConfig(unmasking))
    batch = batch_of(layout, **columns)
    loss = loss_of(network, time_power=power)
    out = loss(batch, seed=11)
    times = loss.times(batch, 11)
    truth = _written_out(network, batch, times.time, times.weight, 11)
    for column, name in enumerate(("loss", "unmask", "insertion", "nll")):
        torch.testing.assert_close(out.terms[name].total, truth[:, column])
    tokens = {
        "seq2seq": [5, 1, 7, 2],
        "lm": [5, 1, 7, 2],
        "infill": [3, 4, 0],  # a token for the end of each hole
    }[layout]
    assert out.weight == sum(tokens)
    assert out.terms["nll"].count.tolist() == tokens
    torch.testing.assert_close(out.loss, truth[:, 0].sum() / sum(tokens))


@pytest.mark.parametrize("names", [("linear", "linear"), ("sin", "cosine"), ("geometric", "polynomial")])
def test_a_network_that_knows_nothing_pays_log_v_for_each_token(tokenizer, specials, batch_of, names):
    """Whatever the schedules, a token is unmasked once; the last of them, near the end of time, weigh no more than others."""
    insertion, unmasking = map(ScheduleConfig, names)
    cfg = ModelConfig(dim=8, layers=1, heads=1, insertion=insertion, unmasking=unmasking, conditioning_dim=4)
    model = FlexmdmModel(cfg, len(tokenizer), specials).double().train()
    with torch.no_grad():
        total = FlexmdmLoss(LossConfig(), model)(batch_of("lm", input_ids=[[7, 8, 9]] * 6000), seed=0).terms["unmask"].total
    error = float(total.std()) / 6000**0.5
    assert error < 0.15
    assert float(total.mean()) == pytest.approx(3 * math.log(len(tokenizer)), abs=3 * error)


def test_times_are_spread_over_a_batch_and_have_their_density(loss_of):
    batch = {"draw": torch.arange(40_000)}
    for power in (1.0, 2.0, 3.0):
        time, weight = loss_of(time_power=power).times(batch, 5)
        assert float((time < 0.5).double().mean()) == pytest.approx(1 - 0.5 ** (1 / power), abs=1e-3)
        assert float((weight * time).mean()) == pytest.approx(0.5, abs=1e-3), "1 / density integrates any function"
        parts = ((1 - (1 - time[:64]) ** (1 / power)) * 32).long()
        assert len(parts.unique()) == 32, "no part of the batch lacks any times"
        order = torch.corrcoef(torch.stack([time, torch.arange(len(time)).double()]))[0, 1]
        assert abs(float(order)) < 0.01, "the place in the batch says nothing"


@pytest.mark.parametrize("power", [1.5, 2.0])
@pytest.mark.parametrize("names", [("sin", "polynomial"), ("geometric", "linear"), ("cosine", "geometric")])
def test_times_are_drawn_where_either_schedule_has_events(build_network, loss_of, names, power):
    network = build_network(insertion=ScheduleConfig(names[0]), unmasking=ScheduleConfig(names[1]))
    time, weight = loss_of(network, time_power=power).times({"draw": torch.arange(100_000)}, 5)
    of_both = (network.insertion, network.unmasking)
    for cut in (0.1, 0.5, 0.9):
        now = torch.tensor(cut, dtype=torch.float64)
        share = sum(1 - schedule.remaining(now) ** (1 / power) for schedule in of_both) / 2
        assert float((time < cut).double().mean()) == pytest.approx(float(share), abs=2e-3)
        assert float((weight * (time < cut)).mean()) == pytest.approx(cut, abs=5e-3), "1 / density integrates any function"
    for schedule in of_both:
        bound = 2 * power * schedule.remaining(time) ** (-1 / power)
        assert (weight * schedule.hazard(time) <= bound * (1 + 1e-6)).all(), "no event weighs much more than it is rare"


def test_no_gap_loss_is_averaged_before_it_is_weighted(build_network, batch_of, loss_of):
    """F5: each row's cross-entropy has the weight of its own time."""
    network = build_network(length_head="distribution")
    loss = loss_of(network)
    batch = batch_of("lm", input_ids=PAIRS["input_ids"])
    times = loss.times(batch, 2)
    noised = loss.noised(batch, times.time, 2)
    together = loss.parts(noised, times, batch["free"].sum(-1)).insertion
    for row in range(4):
        one = loss.parts(
            type(noised)(*(x[row : row + 1] for x in noised)), type(times)(*(x[row : row + 1] for x in times)), torch.zeros(1)
        )
        torch.testing.assert_close(together[row], one.insertion[0])
    law = network.read(noised.ids, times.time, noised.mask).gaps.log_law
    by_hand = [
        sum(-law[row, c, noised.gaps[row, c]] for c in range(law.shape[1]) if noised.open[row, c])
        * times.weight[row]
        / (1 - times.time[row])
        for row in range(4)
    ]
    torch.testing.assert_close(together, torch.stack(by_hand))


def test_padding_changes_nothing(loss_of, batch_of, network):
    narrow = loss_of()(batch_of("seq2seq", **PAIRS), seed=3)
    wide = loss_of()(batch_of("seq2seq", **PAIRS, length=20, prompt_length=9, pad_to_longest=False), seed=3)
    torch.testing.assert_close(narrow.loss, wide.loss)
    for name in narrow.terms:
        torch.testing.assert_close(narrow.terms[name].total, wide.terms[name].total)
        assert torch.equal(narrow.terms[name].count, wide.terms[name].count)
    grads = [torch.autograd.grad(out.loss, list(network.parameters()), allow_unused=True) for out in (narrow, wide)]
    for one, other in zip(*grads, strict=True):
        assert one is None if other is None else torch.allclose(one, other)


def test_rows_have_the_same_loss_in_any_batch(loss_of, batch_of):
    together = loss_of()(batch_of("seq2seq", **PAIRS), seed=3).terms["nll"].total
    for row in range(4):
        alone = batch_of("seq2seq", draws=[row], **{name: [values[row]] for name, values in PAIRS.items()})
        torch.testing.assert_close(loss_of()(alone, seed=3).terms["nll"].total[0], together[row])
    other = loss_of()(batch_of("seq2seq", **PAIRS), seed=4).terms["nll"].total
    assert not torch.allclose(other, together)


def test_the_published_scale_is_columns(loss_of, batch_of):
    batch = batch_of("seq2seq", **PAIRS, length=6, prompt_length=3, pad_to_longest=False)
    token, canvas = loss_of()(batch, seed=1), loss_of(scale="canvas")(batch, seed=1)
    assert canvas.weight == 4 * 11
    torch.testing.assert_close(canvas.loss * canvas.weight, token.loss * token.weight)
    assert canvas.terms["loss"].count.tolist() == [11.0] * 4
    torch.testing.assert_close(canvas.terms["nll"].total, token.terms["nll"].total)
    assert torch.equal(canvas.terms["nll"].count, token.terms["nll"].count)


def test_an_evaluation_averages_over_strata(loss_of, batch_of, network):
    batch = batch_of("seq2seq", **PAIRS)
    loss = loss_of(eval_samples=3)
    parts = [loss._parts(batch, 7, index, 3).nll for index in range(3)]
    torch.testing.assert_close(loss(batch, seed=7).terms["nll"].total, torch.stack(parts).mean(0))
    first = low_discrepancy(7, batch["draw"], STREAM)
    for index in range(3):
        done = (2 * (first + index) / 3) % 1
        torch.testing.assert_close(loss.times(batch, 7, index, 3).time, 1 - (1 - done) ** 2)
    network.train()
    assert torch.equal(loss(batch, seed=7).terms["nll"].total, loss_of()(batch, seed=7).terms["nll"].total)


def test_rows_without_holes_cost_nothing(loss_of, batch_of):
    out = loss_of()(batch_of("infill", prompt_ids=[[7, 8]] * 3, input_ids=[[7, 8]] * 3), seed=0)
    assert (float(out.loss.detach()), float(out.weight)) == (0.0, 0.0)
    out.loss.backward()


def test_the_batch_is_not_written_to(loss_of, batch_of):
    batch = batch_of("seq2seq", **PAIRS)
    before = copy.deepcopy(batch)
    loss_of()(batch, seed=0).loss.backward()
    assert all(torch.equal(batch[name], before[name]) for name in before)


def test_mixed_precision_is_near_float64(build_network, batch_of, loss_of):
    """F6, and no sentinel that bfloat16 cannot hold: finite, close, and without a warning."""
    batch = batch_of("seq2seq", **PAIRS)
    network = build_network()
    exact = loss_of(network)(batch, seed=1)
    network.float()
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")
        out = loss_of(network)(batch, seed=1)
    assert out.loss.dtype == torch.float32
    assert float(out.loss.detach()) == pytest.approx(float(exact.loss.detach()), rel=0.05)


@pytest.mark.parametrize(
    "options, word", [({"scale": "row"}, "row"), ({"time_power": 0.5}, "time_power"), ({"eval_samples": 0}, "eval_samples")]
)
def test_wrong_configs_are_refused(loss_of, options, word):
    with pytest.raises(ConfigError, match=word):
        loss_of(**options)
