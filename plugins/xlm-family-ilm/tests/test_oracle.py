"""Enumerable laws: with exact insertion conditionals the loss is its closed form, and samples have exactly the sampler's law.

A law gives every string of at most 4 letters a probability. Training drops subsets, so a canvas x comes from a string y by each
subset S with y \\ S = x, with probability p(y) / ((n + 1) binomial(n, |S|)). Summing over them gives the exact conditionals.

The sampler's law is not the data's: it stops by a threshold, and inserts one token at a time as if each came from training. So
it is compared with its own law, computed by following every insertion through the lattice of subsequences.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from scipy import stats

from xlm_core.trace import final, replay

CLS, BOS = 1, 4
NOTHING, TRAP = -1e4, 40.0
SAMPLES = 6000


class Law:
    """All strings of at most `longest` letters, and what training makes of them."""

    def __init__(self, letters, longest, seed=0):
        strings = [s for n in range(longest + 1) for s in itertools.product(range(7, 7 + letters), repeat=n)]
        self.strings = dict(zip(strings, np.random.default_rng(seed).dirichlet([1.0] * len(strings)).tolist(), strict=True))
        self.canvas, self.whole = defaultdict(float), defaultdict(float)
        self.pairs = defaultdict(lambda: defaultdict(float))
        for y, S, weight in self.droppings():
            x = tuple(token for i, token in enumerate(y) if i not in S)
            self.canvas[x] += weight
            self.whole[x] += weight * (not S)
            for i in S:
                gap = sum(j < i for j in range(len(y)) if j not in S)
                self.pairs[x][gap, y[i]] += weight / len(S)

    def droppings(self):
        for y, p in self.strings.items():
            n = len(y)
            for size in range(n + 1):
                for S in itertools.combinations(range(n), size):
                    yield y, set(S), p / ((n + 1) * math.comb(n, size))

    def insertion(self, x):
        """(gap, token) -> probability: what is missing from x, given that something is."""
        total = sum(self.pairs[x].values())
        return {pair: share / total for pair, share in self.pairs[x].items()}

    def stop(self, x):
        return self.whole[x] / self.canvas[x]

    def loss(self):
        """Expected loss with the exact conditionals: the entropies of what is asked."""
        total = 0.0
        for x, weight in self.canvas.items():
            missing = sum(self.pairs[x].values())
            total -= missing * sum(p * math.log(p) for p in self.insertion(x).values())
            total -= sum(part * math.log(part / weight) for part in (self.whole[x], missing) if part > 0)
        return total

    def score(self, vocabulary, trap=NOTHING):
        """The network that knows: `trap` is the logit of special tokens and of CLS's closed gap."""

        def score(canvas):
            insertion = torch.full((len(canvas), vocabulary), NOTHING, dtype=torch.float64)
            insertion[:, :7] = trap
            insertion[0] = trap
            x, begin = canvas[2:], 1
            for (gap, token), p in self.insertion(x).items():
                insertion[begin + gap, token] = math.log(p)
            p0 = self.stop(x)
            return insertion, torch.tensor([math.log(p) if p > 0 else NOTHING for p in (p0, 1 - p0)], dtype=torch.float64)

        return score


@pytest.fixture(scope="module", params=[(2, 4), (3, 3)], ids=lambda p: f"{p[0]}letters{p[1]}")
def law(request):
    return Law(*request.param)


@pytest.fixture
def every_dropping(law, collate, choose):
    """One row for each string and subset, and its probability."""
    strings, subsets, weights = zip(*law.droppings(), strict=True)
    choose(subsets)
    return collate("lm", input_ids=[list(y) for y in strings]), torch.tensor(weights, dtype=torch.float64)


def test_training_meets_each_canvas_as_often_as_it_should(law):
    assert sum(law.canvas.values()) == pytest.approx(1)
    for x in law.canvas:
        missing = sum(law.pairs[x].values())
        assert missing + law.whole[x] == pytest.approx(law.canvas[x])  # targets sum to one over (gap, token)


def test_the_loss_of_the_oracle_is_its_closed_form(law, table, loss_of, every_dropping, tokenizer):
    batch, weights = every_dropping
    found = loss_of(table(law.score(len(tokenizer))))(batch, seed=0).terms["loss"].total
    assert (weights @ found.double()).item() == pytest.approx(law.loss(), abs=1e-6)


def test_the_closed_form_is_a_minimum(law, table, loss_of, every_dropping, tokenizer):
    """The gradient vanishes at the exact conditionals, and any other logits cost more."""
    batch, weights = every_dropping
    exact, noise = law.score(len(tokenizer)), {}

    def score(canvas):
        insertion, outcome = exact(canvas)
        if canvas not in noise:
            torch.manual_seed(len(noise))
            noise[canvas] = [torch.zeros_like(part).requires_grad_() for part in (insertion, outcome)]
        return insertion + noise[canvas][0], outcome + noise[canvas][1]

    loss = loss_of(table(score))
    (weights @ loss(batch, seed=0).terms["loss"].total.double()).item()
    total = loss.insertion(loss.model.hidden(batch["input_ids"], batch["attention_mask"]), batch)
    states = loss.model.hidden(batch["input_ids"], batch["attention_mask"])
    outcome = loss.outcome(loss.model.outcome(states[:, 0]).float(), batch["target_mask"].sum(-1))
    (weights @ (total + outcome).double()).backward()
    assert max(part.grad.abs().max().item() for parts in noise.values() for part in parts if part.grad is not None) < 1e-7
    for parts in noise.values():
        for part in parts:
            part.data = torch.randn_like(part) * 0.1
    assert (weights @ loss(batch, seed=0).terms["loss"].total.double()).item() > law.loss() + 1e-3


def test_the_mean_loss_over_random_droppings_is_the_closed_form(law, table, loss_of, collate, tokenizer):
    n = 8000
    rng = np.random.default_rng(0)
    strings = [list(law.strings)[i] for i in rng.choice(len(law.strings), n, p=list(law.strings.values()))]
    out = loss_of(table(law.score(len(tokenizer))))(collate("lm", input_ids=strings, seed=11), seed=0)
    values = out.terms["loss"].total.double()
    assert abs(values.mean().item() - law.loss()) < 4 * values.std().item() / math.sqrt(n)


# The law of the sampler


def shaped(law, temperature=1.0, top_k=None, top_p=None):
    """Temperature, then the k largest and their ties, then the nucleus, of a dict of probabilities."""
    if temperature == 0:
        return {max(law, key=law.get): 1.0}
    ordered = sorted(((p ** (1 / temperature), key) for key, p in law.items()), key=lambda pair: -pair[0])
    if top_k is not None:
        smallest = ordered[min(top_k, len(ordered)) - 1][0]
        ordered = [pair for pair in ordered if pair[0] > smallest * (1 - 1e-6)]
    total, kept, mass = sum(p for p, _ in ordered), {}, 0.0
    for p, key in ordered:
        if mass >= (1.0 if top_p is None else top_p):
            break
        kept[key] = p
        mass += p / total
    return {key: p / sum(kept.values()) for key, p in kept.items()}


def choices(pairs, gap, token, joint):
    """(gap, token) -> probability of the sampler's choice."""
    if joint:
        return shaped(pairs, **token)
    gaps = defaultdict(float)
    for (g, _), p in pairs.items():
        gaps[g] += p
    return {
        (g, t): share * p
        for g, share in shaped(gaps, **gap).items()
        for t, p in shaped({t: p for (other, t), p in pairs.items() if other == g}, **token).items()
    }


def sampler_law(
    law, *, start=(), opened=(True,), gap=None, token=None, joint=False, threshold=0.5, tau=1.0, limit=9, force=False
):
    """Follow every insertion. A state is a string and which of its gaps (the first is BOS's) may receive a token."""
    ended, alive = defaultdict(float), {(start, opened): 1.0}
    for step in range(limit + 1):
        following = defaultdict(float)
        for (x, gates), p in alive.items():
            odds = [part ** (1 / tau) for part in (law.stop(x), 1 - law.stop(x))]
            stops = odds[0] / sum(odds) >= threshold and not (force and step == 0)
            if stops or step == limit or not any(gates):
                ended[x] += p
                continue
            pairs = {(g, t): share for (g, t), share in law.insertion(x).items() if gates[g]}
            total = sum(pairs.values())
            for (g, t), share in choices({pair: s / total for pair, s in pairs.items()}, gap or {}, token or {}, joint).items():
                following[(*x[:g], t, *x[g:]), (*gates[: g + 1], True, *gates[g + 1 :])] += p * share
        alive = following
    return ended


def agrees(found, expected):
    """Chi-square of samples against a law; outcomes that are expected fewer than 5 times are taken together."""
    n = len(found)
    counts = defaultdict(int)
    for x in found:
        counts[x] += 1
    assert set(counts) <= {x for x, p in expected.items() if p > 0}
    often = [x for x, p in expected.items() if n * p >= 5]
    cells = [(counts[x], n * expected[x]) for x in often]
    rest = n - sum(e for _, e in cells)
    if rest >= 5:
        cells.append((n - sum(c for c, _ in cells), rest))
    if len(cells) == 1:
        return True
    observed, means = zip(*cells, strict=True)
    return stats.chisquare(observed, np.array(means) * sum(observed) / sum(means)).pvalue > 1e-4


CASES = {
    "plain": {},
    "joint": {"joint": True},
    "late stop": {"threshold": 0.9},
    "early stop": {"threshold": 0.2},
    "stop temperature": {"tau": 3.0, "threshold": 0.4},
    "forced first": {"threshold": 1e-3, "force": True},
    "at most two": {"threshold": 0.9, "limit": 2},
    "temperatures": {"gap": {"temperature": 0.5}, "token": {"temperature": 2.0}, "threshold": 0.7},
    "top k": {"gap": {"top_k": 2}, "token": {"top_k": 2}, "threshold": 0.7},
    "nucleus": {"gap": {"top_p": 0.6}, "token": {"top_p": 0.7}, "threshold": 0.7},
    "best token anywhere": {"token": {"temperature": 0.0}, "threshold": 0.7},
    "joint top k": {"joint": True, "token": {"top_k": 3, "temperature": 1.5}, "threshold": 0.7},
    "joint nucleus": {"joint": True, "token": {"top_p": 0.6}, "threshold": 0.7},
}


def options(gap=None, token=None, joint=False, threshold=0.5, tau=1.0, limit=9, force=False):
    from xlm_core.config import SamplingConfig

    return {
        "gap": SamplingConfig(**(gap or {})),
        "token": SamplingConfig(**(token or {})),
        "joint": joint,
        "stop_threshold": threshold,
        "stop_temperature": tau,
        "max_new_tokens": limit,
        "force_first": force,
    }


def strings(prediction):
    lengths = (prediction.ids != 0).sum(-1).tolist()
    return [tuple(row[:n]) for row, n in zip(prediction.ids.tolist(), lengths, strict=True)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_samples_have_the_law_of_the_sampler(law, table, predictor_of, collate, tokenizer, case):
    """Special tokens and closed gaps have by far the largest logits here: one look at them and nothing agrees."""
    model = table(law.score(len(tokenizer), TRAP))
    batch = collate("lm", "predict", input_ids=[[]] * SAMPLES)
    found = strings(predictor_of(model, **options(**case)).predict(batch, seed=1))
    assert agrees(found, sampler_law(law, **case))


def test_gap_then_token_is_the_same_law_as_the_pair_at_once(law):
    one, other = sampler_law(law, threshold=0.8), sampler_law(law, threshold=0.8, joint=True)
    assert all(one[x] == pytest.approx(other[x]) for x in {*one, *other})


@pytest.mark.parametrize("joint", [False, True])
def test_filling_a_hole_has_the_law_of_the_sampler(law, table, predictor_of, collate, tokenizer, joint):
    """`7 [hole] 8`: only right of 7 and of what is inserted there."""
    case = {"joint": joint, "threshold": 0.8}
    model = table(law.score(len(tokenizer), TRAP))
    holes = [[7, 2, 8]] * SAMPLES
    batch = collate("infill", "predict", input_ids=holes, prompt_ids=holes)
    found = strings(predictor_of(model, **options(**case)).predict(batch, seed=2))
    expected = sampler_law(law, start=(7, 8), opened=(False, True, False), **case)
    assert len([x for x, p in expected.items() if p > 0.01]) > 2
    assert agrees(found, expected)


@pytest.mark.parametrize("joint", [False, True])
def test_confidence_is_the_probability_of_the_choice(law, table, predictor_of, collate, tokenizer, joint):
    case = {"joint": joint, "threshold": 0.9, "token": {"top_p": 0.8}, "gap": {"temperature": 0.7}}
    batch = collate("lm", "predict", input_ids=[[]] * 300)
    model = table(law.score(len(tokenizer), TRAP))
    prediction = predictor_of(model, **options(**case)).predict(batch, seed=3, trace=True)
    for trace, x in zip(prediction.traces, strings(prediction), strict=True):
        assert tuple(final(trace)) == x
        canvases = [tuple(canvas) for _, canvas in replay(trace)]
        for event, before in zip(trace.events, canvases, strict=False):
            expected = choices(law.insertion(before), case["gap"], case["token"], joint)
            assert event.confidence == pytest.approx(expected[event.position, event.token], rel=1e-5)
