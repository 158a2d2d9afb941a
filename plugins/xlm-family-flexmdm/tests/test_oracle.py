"""The loss and the sampler against a law whose every canvas is enumerated."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from math import exp, factorial, log

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from xlm_family_flexmdm import noising
from xlm_family_flexmdm.config import LossConfig, PredictorConfig
from xlm_family_flexmdm.loss import FlexmdmLoss, Times
from xlm_family_flexmdm.predictor import FlexmdmPredictor

from xlm_core.config import SamplingConfig

FIRST, HIDDEN = 7, -1
DRAWS = 6000

pytestmark = pytest.mark.filterwarnings("ignore:rows wanted more")


# The bound


def _expected_parts(loss, law, string, batch, power, nodes=40):
    """The loss's terms of a string, integrated over the time and summed over everything that noise can do at it."""
    model, size = loss.model, len(string)
    points, weights = np.polynomial.legendre.leggauss(nodes)
    late = torch.from_numpy((1 - points) / 2)  # 1 - u
    fates = list(itertools.product(("absent", "masked", "clean"), repeat=size))
    absent, masked = (
        torch.tensor([[False, *(f == name for f in fate), False] for fate in fates]) for name in ("absent", "masked")
    )
    canvases = [batch[key].expand(len(fates), -1) for key in ("input_ids", "attention_mask", "open")]
    noised = noising.apply(*canvases, noising.Fate(absent, masked), model.specials)
    total = np.zeros(3)
    for v, weight in zip(late, weights / 2, strict=True):
        time = 1 - v**power
        left = model.insertion.remaining(time)
        # Equal schedules: a token is absent with probability 1 - a, and masked with -(1 - a) log(1 - a).
        chances = {"absent": left, "masked": -left * left.log(), "clean": 1 - left + left * left.log()}
        probability = torch.tensor([float(np.prod([chances[f] for f in fate])) for fate in fates], dtype=torch.float64)
        times = Times(time.expand(len(fates)), (power * v ** (power - 1)).expand(len(fates)))
        parts = loss.parts(noised, times, torch.full((len(fates),), size))
        total += weight * np.array([float((part * probability).sum()) for part in parts])
    return dict(zip(("unmask", "insertion", "nll"), total, strict=True))


@pytest.mark.parametrize(
    "schedule, power, head",
    [
        ("linear", 2.0, "expectation"),
        ("linear", 2.0, "distribution"),
        ("linear", 1.0, "expectation"),
        ("linear", 3.0, "expectation"),
        ("sin", 2.0, "distribution"),
        ("cosine", 2.0, "expectation"),
    ],
)
def test_the_bound_is_the_likelihood_of_every_string(law, two_words, batch_of, schedule, power, head):
    truth = law(insertion=schedule, unmasking=schedule, head=head)
    loss = FlexmdmLoss(LossConfig(time_power=power), truth)
    tolerance = 5e-3 if power == 1 else 3e-4  # an integrand with a logarithm at its end
    for string in [(), (1,), (0, 1), (1, 1, 0)]:
        batch = batch_of("lm", input_ids=[[FIRST + w for w in string]], words=two_words)
        parts = _expected_parts(loss, truth, string, batch, power)
        assert parts["nll"] == pytest.approx(-log(truth.strings[string]), abs=tolerance * max(1, len(string)))


def test_a_wrong_network_has_a_larger_bound(law, two_words, batch_of):
    """Rates and tokens of another law: the mean bound is the cross-entropy of a process that does not make the strings."""
    truth = law(longest=2)
    other = law(dict(zip(truth.strings, reversed(truth.strings.values()), strict=True)))
    excess = 0.0
    for string, probability in truth.strings.items():
        batch = batch_of("lm", input_ids=[[FIRST + w for w in string]], words=two_words)
        nll = _expected_parts(FlexmdmLoss(LossConfig(), other), other, string, batch, 2.0)["nll"]
        assert nll == pytest.approx(-log(other.strings[string]), abs=1e-3)
        excess += probability * (nll + log(probability))
    assert excess > 0.1


def test_the_loss_is_an_unbiased_estimate_of_the_bound(law, two_words, batch_of):
    """Noise and times as the loss draws them, with unequal schedules."""
    truth = law(insertion="sin", unmasking="polynomial")
    loss = FlexmdmLoss(LossConfig(), truth)
    copies = 4000
    for string in [(0, 1, 1), (1,)]:
        batch = batch_of("lm", input_ids=[[FIRST + w for w in string]] * copies, words=two_words)
        nll = loss(batch, seed=1).terms["nll"]
        assert torch.equal(nll.count, torch.full((copies,), len(string) + 1.0, dtype=torch.float64))
        error = float(nll.total.std()) / copies**0.5
        assert error < 0.2
        assert float(nll.total.mean()) == pytest.approx(-log(truth.strings[string]), abs=3 * error + 1e-9)


def test_weights_go_to_zero_with_what_is_left_to_happen(law):
    """F7: the later a time the larger the weight of an event, but late times are drawn so often that a row's share stays
    finite."""
    truth = law()
    batch = {"draw": torch.arange(200_000)}
    share, largest = {}, {}
    for power in (1.0, 2.0):
        times = FlexmdmLoss(LossConfig(time_power=power), truth).times(batch, seed=0)
        left = truth.insertion.remaining(times.time)
        weight = times.weight * truth.insertion.hazard(times.time)
        share[power], largest[power] = float((weight * left * (1 - left.log())).max()), float(weight.max())
    assert share[2.0] < 2.5 < 10 < share[1.0]
    assert largest[2.0] <= 2 / 1e-9**0.5 * (1 + 1e-6)


# The sampler


class Twin:
    """The exact law of the decoder: probabilities of all canvases, pushed through every step by definition."""

    def __init__(self, truth, steps, room, *, gap="rounded", order="random", tokens=None):
        self.truth, self.steps, self.room = truth, steps, room
        self.gap, self.order, self.tokens = gap, order, tokens or (lambda law: law)

    def law(self):
        """The probability of every string that comes out."""
        states = {(): 1.0}
        grid = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        for t, s in itertools.pairwise(grid):
            states = self._push(states, float(t), self._chance("unmasking", t, s), self._chance("insertion", t, s))
        return self._push(states, 1.0, 1.0, 0.0)

    def _chance(self, name, t, s):
        a = getattr(self.truth, name).value
        return float((a(s) - a(t)) / (1 - a(t)))

    def _push(self, states, time, reveal, insert):
        after = defaultdict(float)
        for canvas, probability in states.items():
            token, gap = self.truth.at(canvas, time)
            revealed = self._revealed(canvas, token, reveal)
            for counts, chance in self._inserted(gap, self.room - len(canvas), insert).items():
                for written, share in revealed.items():
                    columns = [(HIDDEN,) * n + (word,) for n, word in zip(counts, written, strict=False)]
                    after[sum(columns, ()) + (HIDDEN,) * counts[-1]] += probability * chance * share
        return dict(after)

    def _revealed(self, canvas, token, chance):
        """Every way to reveal masks."""
        masks = [column for column, word in enumerate(canvas) if word == HIDDEN]
        ways = defaultdict(float)
        for due in itertools.product((True, False), repeat=len(masks)):
            share = float(np.prod([chance if d else 1 - chance for d in due]))
            if not share:
                continue
            where = self._where(masks, due, token)
            for words in itertools.product(range(self.truth.words), repeat=len(where)):
                written = list(canvas)
                for column, word in zip(where, words, strict=True):
                    written[column] = word
                    share_of = self.tokens(token[column])[word]
                    share = share * share_of
                ways[tuple(written)] += share
                share = float(np.prod([chance if d else 1 - chance for d in due]))
        return ways

    def _where(self, masks, due, token):
        if self.order == "random":
            return [column for column, d in zip(masks, due, strict=True) if d]
        scores = {
            "position": lambda p, column: -column,
            "top_prob": lambda p, column: max(p),
            "prob_diff": lambda p, column: sorted(p)[-1] - sorted(p)[-2],
            "entropy": lambda p, column: sum(x * log(x) for x in p if x > 0),
        }[self.order]
        ranked = sorted(masks, key=lambda column: (-np.float32(scores(token[column], column)), column))
        return ranked[: sum(due)]

    def _inserted(self, gap, room, chance):
        """The law of the numbers inserted in each gap: drawn without regard to the room, then cut to it in equal shares."""
        if not chance:
            return {(0,) * len(gap): 1.0}
        means = gap @ np.arange(gap.shape[1])
        ways = defaultdict(float)
        if self.gap == "poisson":
            drawn = self._poisson(means * chance, room)
        else:
            drawn = defaultdict(float)
            for numbers, share in self._numbers(gap, means).items():
                columns = [column for column, number in enumerate(numbers) for _ in range(number)]
                for kept in itertools.product((True, False), repeat=len(columns)):
                    p = float(np.prod([chance if keep else 1 - chance for keep in kept]))
                    drawn[tuple(column for column, keep in zip(columns, kept, strict=True) if keep)] += share * p
        for columns, share in drawn.items():
            count = len(columns)
            if count > room:
                columns = [c for rank, c in enumerate(columns, 1) if rank * room // count > (rank - 1) * room // count]
            counts = Counter(columns)
            ways[tuple(counts[column] for column in range(len(gap)))] += share
        return ways

    def _numbers(self, gap, means):
        """The law of the numbers that are believed to be missing in the gaps."""
        if self.gap == "drawn":
            ways = itertools.product(*([(n, p) for n, p in enumerate(law) if p] for law in gap))
            return {tuple(n for n, _ in way): float(np.prod([p for _, p in way])) for way in ways}
        ends = np.cumsum(means)
        if self.gap == "nearest":
            return {self._differences(ends, 0.5): 1.0}
        # The offset is uniform; the numbers change where it lifts an end over a whole number.
        steps = sorted({0.0, 1.0, *(np.ceil(ends) - ends)})
        return {self._differences(ends, (a + b) / 2): b - a for a, b in itertools.pairwise(steps) if b - a > 1e-12}

    @staticmethod
    def _differences(ends, offset):
        whole = [0, *(int(end + offset) for end in ends)]
        return tuple(b - a for a, b in itertools.pairwise(whole))

    def _poisson(self, means, room):
        """A Poisson number in all, each in a gap in proportion to its mean; any that fit are as good as others."""
        total, ways, rest = means.sum(), {}, 1.0
        for number in range(room + 1 if total else 1):
            chance = exp(-total) * total**number / factorial(number) if number < room else rest
            rest -= chance
            for columns in itertools.product(range(len(means)), repeat=number):
                ways[columns] = chance * float(np.prod([means[c] / total for c in columns])) if number else chance
        return ways


def _draws(truth, two_words, batch_of, steps, room, rows=DRAWS, **options):
    cfg = PredictorConfig(steps=steps, max_new_tokens=room, **options)
    batch = batch_of("lm", "predict", input_ids=[[]] * rows, words=two_words)
    ids = FlexmdmPredictor(cfg, truth, two_words).predict(batch, seed=1).ids.tolist()
    return [tuple(token - FIRST for token in row if token) for row in ids]


def _agrees(rows, expected):
    """Chi-square at 0.1 %, over strings that should be seen at least five times and all others together."""
    seen = Counter(rows)
    assert all(expected.get(string, 0.0) > 0 for string in seen)
    assert sum(expected.values()) == pytest.approx(1.0)
    common = [string for string, probability in expected.items() if probability * len(rows) >= 5]
    observed, means = [seen[s] for s in common], [expected[s] * len(rows) for s in common]
    if len(rows) - sum(means) > 1e-6 * len(rows):
        observed.append(len(rows) - sum(observed))
        means.append(len(rows) - sum(means))
    return len(means) == 1 or chisquare(observed, means).pvalue > 1e-3


def _distance(one, other):
    return sum(abs(one.get(string, 0.0) - other.get(string, 0.0)) for string in {*one, *other}) / 2


@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize(
    "gap, head",
    [("rounded", "expectation"), ("drawn", "distribution"), ("poisson", "expectation"), ("rounded", "distribution")],
)
def test_samples_follow_the_samplers_own_law(law, two_words, batch_of, steps, gap, head):
    truth = law(head=head, noise=5.0)
    expected = Twin(truth, steps, 3, gap=gap).law()
    assert _agrees(_draws(truth, two_words, batch_of, steps, 3, gap=gap), expected)


@pytest.mark.parametrize("order", ["position", "top_prob", "prob_diff", "entropy"])
def test_orders_follow_their_own_law(law, two_words, batch_of, order):
    truth = law()
    expected = Twin(truth, 4, 3, order=order).law()
    assert _agrees(_draws(truth, two_words, batch_of, 4, 3, order=order), expected)


@pytest.mark.parametrize("head", ["expectation", "distribution"])
def test_the_nearest_number_follows_its_own_law(law, two_words, batch_of, head):
    truth = law(head=head)
    assert _agrees(_draws(truth, two_words, batch_of, 3, 3, gap="nearest"), Twin(truth, 3, 3, gap="nearest").law())


@pytest.mark.parametrize("insertion, unmasking", [("sin", "cosine"), ("polynomial", "linear"), ("geometric", "geometric")])
def test_other_schedules_follow_their_own_law(law, two_words, batch_of, insertion, unmasking):
    truth = law(insertion=insertion, unmasking=unmasking)
    expected = Twin(truth, 4, 3).law()
    assert _distance(expected, Twin(law(), 4, 3).law()) > 0.01
    assert _agrees(_draws(truth, two_words, batch_of, 4, 3), expected)


def test_tokens_follow_the_truncated_law(law, two_words, batch_of):
    truth = law(noise=5.0)

    def squared(p):
        return p**2 / (p**2).sum()

    expected = Twin(truth, 4, 3, tokens=squared).law()
    assert _distance(expected, Twin(truth, 4, 3).law()) > 0.02
    assert _agrees(_draws(truth, two_words, batch_of, 4, 3, token=SamplingConfig(temperature=0.5)), expected)


@pytest.mark.parametrize("room", [1, 2])
@pytest.mark.parametrize("gap", ["rounded", "poisson"])
def test_rows_without_enough_room_follow_their_own_law(law, two_words, batch_of, room, gap):
    truth = law()
    assert _agrees(_draws(truth, two_words, batch_of, 4, room, gap=gap), Twin(truth, 4, room, gap=gap).law())


@pytest.mark.parametrize(
    "options, gap, order",
    [
        ({}, "rounded", "random"),
        ({"head": "distribution"}, "drawn", "random"),
        ({}, "poisson", "random"),
        ({}, "rounded", "position"),
        ({"insertion": "sin", "unmasking": "cosine"}, "rounded", "random"),
    ],
)
def test_the_samplers_law_goes_to_the_datas_in_first_order(law, options, gap, order):
    """Halving the step halves the distance, computed from the sampler's own law and not from samples."""
    truth = law(longest=2, **options)
    distances = [_distance(Twin(truth, steps, 2, gap=gap, order=order).law(), truth.strings) for steps in (32, 64, 128)]
    assert distances[-1] < 0.02
    for one, half in itertools.pairwise(distances):
        assert 1.7 < one / half < 2.3, distances


def test_many_steps_reach_the_data(law, two_words, batch_of):
    truth = law(longest=2)
    rows = _draws(truth, two_words, batch_of, 128, 2, rows=3000)
    assert _agrees(rows, truth.strings)
    assert not _agrees(_draws(truth, two_words, batch_of, 2, 2, rows=3000), truth.strings), "two steps are too few"
