"""The loss against a brute-force softmax over all open (gap, token) pairs in float64, and what it must not depend on."""

from __future__ import annotations

import pytest
import torch

from xlm_core.errors import ConfigError

LAYOUTS = ["lm", "seq2seq", "infill"]


@pytest.fixture(params=[(layout, inside) for layout in LAYOUTS for inside in (False, True)], ids=str)
def batch(request, collate, rows):
    """Rows that lost nothing, something and everything."""
    layout, insert_in_prompt = request.param
    found = collate(layout, draws=[3, 1, 4, 15, 9], insert_in_prompt=insert_in_prompt, **rows[layout])
    assert 0 < int((found["target_mask"].sum(-1) == 0).sum()) < 5
    return found


def parts(batch, i):
    """The open columns of a row and its targets as (column, token)."""
    opened = batch["gaps"][i][batch["gap_mask"][i]].tolist()
    mask = batch["target_mask"][i]
    columns = batch["gaps"][i][batch["target_gaps"][i]][mask].tolist()
    return opened, list(zip(columns, batch["target_tokens"][i][mask].tolist(), strict=True))


def brute_force(model, batch, weight, classes=None):
    """Each row's insertion and outcome loss from the logits of every column, one row at a time."""
    losses = []
    for i in range(len(batch["draw"])):
        mask = batch["attention_mask"][i]
        logits, outcome = model(batch["input_ids"][i][mask][None], mask[mask][None])
        opened, targets = parts(batch, i)
        insertion = 0.0
        if targets:
            flat = logits[0, opened].flatten().log_softmax(0).view(len(opened), -1)
            insertion = -sum(flat[opened.index(column), token] for column, token in targets) / len(targets)
        answer = len(targets) if outcome.shape[-1] > 2 else int(len(targets) > 0)
        answer = min(answer, outcome.shape[-1] - 1)
        share = 1.0 if classes is None else (classes, 1 - classes)[answer]
        losses.append(insertion - weight * share * outcome[0].log_softmax(0)[answer])
    return torch.stack(losses)


@pytest.mark.parametrize("outcome, options", [("stop", {}), ("length", {"max_missing": 9})])
@pytest.mark.parametrize("weight", [1.0, 0.01])
def test_loss_equals_brute_force(network, loss_of, batch, outcome, options, weight):
    model = network(outcome, **options)
    loss = loss_of(model, outcome_weight=weight)
    out = loss(batch, seed=0)
    expected = brute_force(model, batch, weight)
    assert torch.allclose(out.terms["loss"].total, expected, atol=1e-6)
    assert out.loss.item() == pytest.approx(expected.mean().item(), abs=1e-6)
    assert out.weight == 5
    grads = [torch.autograd.grad(x, list(model.parameters())) for x in (out.loss, expected.mean())]
    for ours, theirs in zip(*grads, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("classes", [0.9, 0.2])
def test_class_weights_multiply_rows_and_are_not_renormalised(network, loss_of, batch, classes):
    model = network()
    out = loss_of(model, outcome_weight=0.5, stop_class_weight=classes)(batch, seed=0)
    assert torch.allclose(out.terms["loss"].total, brute_force(model, batch, 0.5, classes), atol=1e-6)


def test_numbers_beyond_the_length_head_count_as_its_last(network, loss_of, collate):
    batch = collate("lm", draws=range(20), input_ids=[[7, 8, 9, 10, 11]] * 20)
    assert int(batch["target_mask"].sum(-1).max()) > 2
    model = network("length", max_missing=2)
    out = loss_of(model)(batch, seed=0)
    assert torch.allclose(out.terms["loss"].total, brute_force(model, batch, 1.0), atol=1e-6)


def test_class_weights_need_the_stop_head(network, loss_of):
    with pytest.raises(ConfigError, match=r"stop_class_weight needs model\.outcome=stop"):
        loss_of(network("length"), stop_class_weight=0.9)


def test_terms(network, loss_of, batch):
    model = network()
    terms = loss_of(model, outcome_weight=0.25)(batch, seed=0).terms
    some = batch["target_mask"].any(-1)
    assert torch.equal(terms["insertion"].count, some.float())
    assert (terms["insertion"].total[~some] == 0).all()
    assert torch.allclose(terms["loss"].total, terms["insertion"].total + 0.25 * terms["outcome"].total)
    logits = torch.stack(
        [model(batch["input_ids"][i][m][None], m[m][None])[1][0] for i, m in enumerate(batch["attention_mask"])]
    )
    assert torch.equal(terms["outcome_accuracy"].total.bool(), logits.argmax(-1) == some.long())
    assert not any(part.requires_grad for ratio in terms.values() for part in (ratio.total, ratio.count))


class Given(torch.nn.Module):
    """A network whose states are given, so that their gradients can be looked at."""

    outcome_kind = "stop"

    def __init__(self, states, weight):
        super().__init__()
        self.states = states
        self.head = torch.nn.Linear(*weight.T.shape, bias=False)
        self.head.weight = torch.nn.Parameter(weight)

    def hidden(self, input_ids, attention_mask):
        return self.states

    def outcome(self, state):
        return state[..., :2]


def given(batch, *, dim=6, vocabulary=13):
    torch.manual_seed(1)
    states = torch.randn(*batch["input_ids"].shape, dim, dtype=torch.float64, requires_grad=True)
    return Given(states, torch.randn(vocabulary, dim, dtype=torch.float64))


def test_only_open_columns_and_cls_get_a_gradient(loss_of, batch):
    model = given(batch)
    loss_of(model)(batch, seed=0).loss.backward()
    touched = (model.states.grad != 0).any(-1)
    for i in range(len(touched)):
        opened, targets = parts(batch, i)
        expected = {0, *opened} if targets else {0}
        assert set(touched[i].nonzero()[:, 0].tolist()) == expected


def test_a_constant_on_all_logits_of_a_row_changes_nothing(loss_of, batch):
    model = given(batch)
    loss = loss_of(model)
    before = loss.insertion(model.states, batch)
    constant = torch.tensor([5.0, -7.0, 100.0, 0.0, 1e3], dtype=torch.float64)[:, None, None]
    with_constant = torch.cat([model.states, constant.expand(-1, model.states.shape[1], 1)], -1)
    model.head.weight = torch.nn.Parameter(torch.cat([model.head.weight, torch.ones(13, 1, dtype=torch.float64)], -1))
    assert torch.allclose(loss.insertion(with_constant, batch), before, atol=1e-10)


def test_targets_weigh_alike_however_often_a_token_is_missing_in_a_gap(loss_of, collate):
    """Twice the same token in one gap counts twice: at the optimum its share is 2/3."""
    batch = collate("lm", draws=[0], input_ids=[[7, 7, 8]])
    batch |= {"target_gaps": torch.tensor([[0, 0, 0]]), "target_tokens": torch.tensor([[7, 7, 8]])}
    batch |= {
        "target_mask": torch.ones(1, 3, dtype=torch.bool),
        "gaps": torch.tensor([[1]]),
        "gap_mask": torch.tensor([[True]]),
    }
    model = given(batch, dim=13)
    model.head.weight = torch.nn.Parameter(torch.eye(13, dtype=torch.float64))
    law = torch.full((13,), 1e-9, dtype=torch.float64)
    law[[7, 8]] = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    states = law.log().expand(1, model.states.shape[1], -1).clone().requires_grad_()
    loss_of(model).insertion(states, batch).sum().backward()
    assert states.grad.abs().max() < 1e-8


@pytest.mark.parametrize("layout", LAYOUTS)
def test_padding_changes_nothing(network, loss_of, collate, rows, layout):
    """Row by row, in a batch, and in one as wide as the config allows."""
    loss, draws = loss_of(network()), [3, 1, 4, 15, 9]
    whole = loss(collate(layout, draws=draws, **rows[layout]), seed=0).terms["loss"].total
    wide = (
        loss(collate(layout, draws=draws, pad_to_longest=False, length=12, prompt_length=9, **rows[layout]), seed=0)
        .terms["loss"]
        .total
    )
    assert torch.allclose(wide, whole, atol=1e-6)
    for i, draw in enumerate(draws):
        row = {name: [column[i]] for name, column in rows[layout].items()}
        alone = loss(collate(layout, draws=[draw], **row), seed=0)
        assert alone.loss.item() == pytest.approx(whole[i].item(), abs=1e-6)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_a_row_without_an_open_gap_has_finite_gradients(network, loss_of, collate):
    """An infill row without a hole loses nothing; only its outcome is trained."""
    model = network()
    for prompts in ([[7, 8], [9, 2]], [[7, 8], [9, 9]]):
        batch = collate("infill", draws=[0, 1], input_ids=[[7, 8], [9, 9]], prompt_ids=prompts)
        out = loss_of(model)(batch, seed=0)
        assert out.terms["insertion"].total[0] == 0
        model.zero_grad()
        with torch.autograd.detect_anomaly(check_nan=True):
            out.loss.backward()
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_seed_does_not_matter_and_the_batch_is_not_changed(network, loss_of, batch):
    before = {name: value.clone() for name, value in batch.items()}
    loss = loss_of(network())
    assert torch.equal(loss(batch, seed=0).loss, loss(batch, seed=1).loss)
    assert set(batch) == set(before)
    assert all(torch.equal(batch[name], before[name]) for name in before)


def test_bfloat16_stays_near_float64(network, loss_of, batch):
    model = network()
    exact = loss_of(model)(batch, seed=0).terms["loss"].total
    with torch.autocast("cpu", torch.bfloat16):
        rough = loss_of(model.float())(batch, seed=0)
    assert rough.loss.dtype == torch.float32
    assert torch.allclose(rough.terms["loss"].total.double(), exact, rtol=0.05, atol=0.1)
    rough.loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
