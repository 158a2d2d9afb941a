"""The bound is -log p when the conditionals are exact, and every sampler has the law that it claims, by enumeration."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import chisquare
from torch.nn import functional as F
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from xlm_family_mdlm.config import LossConfig, PredictorConfig, RemaskConfig
from xlm_family_mdlm.loss import MdlmLoss, Noise
from xlm_family_mdlm.predictor import MdlmPredictor

from xlm_core.config import SamplingConfig
from xlm_core.noise.schedules import schedule

PAD, MASK, EOS, BOS, FIRST = 0, 2, 3, 4, 7
DRAWS = 8000


# The bound


def _subsets(free):
    columns = free.nonzero()[:, 0].tolist()
    return [s for k in range(1, len(columns) + 1) for s in itertools.combinations(columns, k)]


def _subset_losses(loss, batch, row):
    """The unweighted loss of one row under every set of masked columns."""
    free = batch["free"][row]
    subsets = _subsets(free)
    masked = torch.zeros(len(subsets), len(free), dtype=torch.bool)
    for n, subset in enumerate(subsets):
        masked[n, list(subset)] = True
    rows = {name: value[row : row + 1].expand(len(subsets), *value.shape[1:]) for name, value in batch.items()}
    ones = torch.ones(len(subsets), dtype=torch.float64)
    return [len(s) for s in subsets], loss.nll(rows, Noise(masked, ones, ones)).tolist()


def test_the_bound_is_the_likelihood_when_conditionals_are_exact(law, two_words, batch_of):
    """-log p = sum over sets of k masked columns out of n of (k - 1)! (n - k)! / n! times their loss, text by text."""
    truth = law()
    loss = MdlmLoss(LossConfig(), truth)
    texts = truth.texts()
    batch = batch_of("lm", words=two_words, input_ids=[list(text) for text in texts], length=3)
    for row, probability in enumerate(texts.values()):
        sizes, losses = _subset_losses(loss, batch, row)
        n = 4
        weights = [math.factorial(k - 1) * math.factorial(n - k) / math.factorial(n) for k in sizes]
        assert np.dot(weights, losses) == pytest.approx(-math.log(probability), rel=1e-9)


def _estimates(loss, batch, row, draws):
    one = {name: value[row : row + 1].expand(draws, *value.shape[1:]) for name, value in batch.items()}
    return loss({**one, "draw": torch.arange(draws)}, seed=5).terms["nll"].total.numpy()


@pytest.mark.parametrize("samples", [1, 3])
def test_the_mean_of_the_count_estimator_is_the_bound(law, two_words, batch_of, samples):
    truth = law()
    loss = MdlmLoss(LossConfig(eval_samples=samples), truth.eval())
    texts = truth.texts()
    batch = batch_of("lm", words=two_words, input_ids=[list(text) for text in texts], length=3)
    for row in (0, 1, 5, 14):
        found = _estimates(loss, batch, row, 4000)
        expected = -math.log(list(texts.values())[row])
        assert found.mean() == pytest.approx(expected, abs=4 * found.std() / math.sqrt(len(found)))


@pytest.mark.parametrize("name", ["log_linear", "linear", "cosine"])
def test_the_mean_of_the_time_estimator_is_the_bound_but_for_its_cut_off(law, two_words, batch_of, name):
    """Its exact mean is an integral over noise levels in (min_noise, 1), done here by quadrature."""
    truth = law().train()
    loss = MdlmLoss(LossConfig(schedule=name), truth)
    texts = truth.texts()
    batch = batch_of("lm", words=two_words, input_ids=[list(text) for text in texts], length=3)
    noise, n = schedule(name), 4
    least = noise.inverse(torch.tensor(1e-3, dtype=torch.float64)).item()
    for row in (0, 5, 14):
        sizes, losses = _subset_losses(loss, batch, row)

        def density(t, sizes=sizes, losses=losses):
            time = torch.tensor(t, dtype=torch.float64)
            c, weight = noise.masked(time).item(), noise.weight(time).item()
            return weight * sum(c**k * (1 - c) ** (n - k) * x for k, x in zip(sizes, losses, strict=True))

        expected = quad(density, least, 1)[0] / (1 - 1e-3)
        assert expected == pytest.approx(-math.log(list(texts.values())[row]), rel=2e-3)
        found = _estimates(loss, batch, row, 20_000)
        assert found.mean() == pytest.approx(expected, abs=4 * found.std() / math.sqrt(len(found)))


def test_counting_has_less_variance_than_chance(law, two_words, batch_of):
    truth = law()
    batch = batch_of("lm", words=two_words, input_ids=[[7, 8, 7]], length=3)
    spreads = {}
    for training, samples in ((True, 1), (False, 1), (False, 4)):
        loss = MdlmLoss(LossConfig(eval_samples=samples), truth.train(training))
        spreads[training, samples] = _estimates(loss, batch, 0, 4000).std()
    assert spreads[False, 1] < 0.7 * spreads[True, 1]
    assert spreads[False, 4] < 0.45 * spreads[False, 1]


# The samplers


class Chain:
    """The exact law of a decoder, by going through all canvases of {masked, words, EOS, padding}.

    It shares the network with the decoder and nothing else.
    """

    def __init__(self, network, token=None, vocabulary=9):
        self.network, self.token = network, token or SamplingConfig()
        self.letters = [MASK, *range(FIRST, vocabulary), EOS, PAD]
        self.columns = network.canvases.shape[1]
        self.states = list(itertools.product(range(len(self.letters)), repeat=self.columns))

    def predictions(self, level=1.0):
        """{canvas: (L, letters) probabilities of the token of each column}."""
        ids = torch.tensor([[self.letters[x] for x in state] for state in self.states])
        ends = [self.readable(row) for row in ids.tolist()]
        valid = torch.arange(self.columns) < torch.tensor(ends)[:, None]
        ids = F.pad(ids, (1, 0), value=BOS)
        valid = F.pad(valid, (1, 0), value=True)
        logits = self.network.hidden(ids, valid, torch.full((len(ids),), level, dtype=torch.float64))[:, 1:, self.letters[1:]]
        laws = {}
        for state, row, end, row_logits in zip(self.states, ids[:, 1:].tolist(), ends, logits, strict=True):
            if EOS in row[:end]:
                row_logits[:, -2:] = -torch.inf
            law = np.zeros((self.columns, len(self.letters)))
            law[:, 1:] = self._truncated(row_logits)
            law[end:] = np.eye(len(self.letters))[-1]
            laws[state] = law
        return laws

    def _truncated(self, logits):
        """The law of a token as Hugging Face has it."""
        if self.token.temperature == 0:
            return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double().numpy()
        warpers = [TemperatureLogitsWarper(self.token.temperature)]
        warpers += [TopKLogitsWarper(self.token.top_k)] if self.token.top_k else []
        warpers += [TopPLogitsWarper(self.token.top_p)] if self.token.top_p else []
        for warper in warpers:
            logits = warper(None, logits)
        return logits.softmax(-1).numpy()

    @staticmethod
    def readable(row):
        for n, token in enumerate(row):
            if token in (EOS, PAD):
                return n + (token == EOS)
        return len(row)

    def step(self, mass, laws, reveal, remask=lambda state: 0.0):
        """One step: masked columns are revealed, visible ones masked again, all independently given the canvas."""
        out = np.zeros_like(mass)
        for state in zip(*np.nonzero(mass), strict=True):
            moves = []
            for column, letter in enumerate(state):
                if letter == 0:
                    move = laws[state][column] * reveal
                    move[0] = 1 - reveal
                else:
                    move = np.eye(len(self.letters))[letter] * (1 - remask(state))
                    move[0] += remask(state)
                moves.append(move)
            out += mass[state] * _outer(moves)
        return out

    def start(self):
        mass = np.zeros((len(self.letters),) * self.columns)
        mass[(0,) * self.columns] = 1.0
        return mass

    def one_by_one(self, laws):
        """Columns revealed in an order drawn at random: steps without end."""
        mass, left = self.start(), self.columns
        while left:
            out = np.zeros_like(mass)
            for state in zip(*np.nonzero(mass), strict=True):
                for column in (n for n, letter in enumerate(state) if letter == 0):
                    for letter, probability in enumerate(laws[state][column]):
                        after = (*state[:column], letter, *state[column + 1 :])
                        out[after] += mass[state] * probability / left
            mass, left = out, left - 1
        return self.texts(mass)

    def texts(self, mass):
        """The law of the texts that final canvases are."""
        law = Counter()
        for state in zip(*np.nonzero(mass), strict=True):
            row = [self.letters[x] for x in state]
            assert MASK not in row
            text = tuple(itertools.takewhile(lambda token: token >= FIRST, row))
            law[text] += mass[state]
        assert sum(law.values()) == pytest.approx(1)
        return law


def _outer(vectors):
    out = vectors[0]
    for vector in vectors[1:]:
        out = out[..., None] * vector
    return out


def _samples(network, words, batch_of, draws=DRAWS, length=3, **options):
    batch = batch_of("lm", "predict", words=words, input_ids=[[]] * draws, length=length)
    prediction = MdlmPredictor(PredictorConfig(**options), network, words).predict(batch, seed=1)
    return [tuple(token for token in row if token != PAD) for row in prediction.ids.tolist()]


def _agrees(rows, expected):
    """Chi-square of sampled texts against a law; rare ones are put together, impossible ones must not appear."""
    seen = Counter(rows)
    assert all(expected[text] > 1e-9 for text in seen)
    common = [text for text, p in expected.items() if p * len(rows) >= 8]
    observed, means = [seen[text] for text in common], [expected[text] * len(rows) for text in common]
    rest = len(rows) - sum(means)
    if rest > 1e-6 * len(rows):
        observed.append(len(rows) - sum(observed))
        means.append(rest)
    return chisquare(observed, np.array(means) * sum(observed) / sum(means)).pvalue > 1e-3


def _ancestral(chain, steps, name="log_linear", final=None):
    mass, noise = chain.start(), schedule(name)
    grid = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    for n, (t, s) in enumerate(itertools.pairwise(grid)):
        here = final if final and n == steps - 1 else chain
        mass = chain.step(mass, here.predictions(noise.masked(t).item()), noise.reveal(t, s).item())
    return chain.texts(mass)


@pytest.mark.parametrize("steps", [1, 2, 4, 16])
def test_ancestral_sampling_has_its_own_law(law, two_words, batch_of, steps):
    """With exact conditionals, and against its law of so many steps, not against the data's."""
    truth = law()
    expected = _ancestral(Chain(truth), steps)
    rows = _samples(truth, two_words, batch_of, sampler="ancestral", steps=steps)
    assert _agrees(rows, expected)
    texts = truth.texts()
    distance = sum(abs(expected[text] - texts.get(text, 0.0)) for text in expected) / 2
    assert distance < {1: 0.9, 2: 0.5, 4: 0.3, 16: 0.08}[steps]
    if steps < 4:
        assert not _agrees(rows, Counter(texts) + Counter(dict.fromkeys(expected, 1e-8)))


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_ancestral_sampling_with_other_schedules(law, two_words, batch_of, name):
    wrong = law(crooked=1.5)
    rows = _samples(wrong, two_words, batch_of, sampler="ancestral", steps=4, schedule=name)
    assert _agrees(rows, _ancestral(Chain(wrong), 4, name))
    assert not _agrees(rows, _ancestral(Chain(wrong), 4, "log_linear"))


@pytest.mark.parametrize(
    "token",
    [
        SamplingConfig(temperature=0.5),
        SamplingConfig(temperature=3.0),
        SamplingConfig(top_k=2),
        SamplingConfig(top_p=0.6),
        SamplingConfig(temperature=1.5, top_k=3, top_p=0.8),
        SamplingConfig(temperature=0.0),
    ],
    ids=str,
)
def test_truncation_changes_what_is_written_and_not_when(law, two_words, batch_of, token):
    wrong = law(longest=2, crooked=1.0)
    rows = _samples(wrong, two_words, batch_of, length=2, sampler="ancestral", steps=3, token=token)
    assert _agrees(rows, _ancestral(Chain(wrong, token), 3))


def test_a_greedy_last_step(law, two_words, batch_of):
    wrong = law(crooked=1.0)
    greedy = Chain(wrong, SamplingConfig(temperature=0.0))
    rows = _samples(wrong, two_words, batch_of, sampler="ancestral", steps=2, last_step="greedy")
    assert _agrees(rows, _ancestral(Chain(wrong), 2, final=greedy))
    assert not _agrees(rows, _ancestral(Chain(wrong), 2))


def test_a_network_that_reads_the_time_gets_that_of_each_step(law, two_words, batch_of):
    timed = law(crooked=1.0, timed=3.0)
    rows = _samples(timed, two_words, batch_of, sampler="ancestral", steps=3, schedule="cosine")
    assert _agrees(rows, _ancestral(Chain(timed), 3, "cosine"))


def test_first_hitting_draws_from_the_data_when_conditionals_are_exact(law, two_words, batch_of):
    truth = law()
    assert _agrees(_samples(truth, two_words, batch_of), Counter(truth.texts()))


def test_first_hitting_is_the_limit_of_many_steps(law, two_words, batch_of):
    wrong = law(crooked=1.5)
    chain = Chain(wrong)
    expected = chain.one_by_one(chain.predictions())
    assert _agrees(_samples(wrong, two_words, batch_of), expected)
    assert _agrees(_samples(wrong, two_words, batch_of, sampler="ancestral", steps=2000), expected)


def test_first_hitting_tells_the_network_the_time(law, two_words, batch_of):
    """Against many steps: their law differs by less than the noise of the samples."""
    timed = law(longest=2, crooked=1.0, timed=3.0)
    expected = _ancestral(Chain(timed), 100)
    assert _agrees(_samples(timed, two_words, batch_of, length=2), expected)


REMASK = {
    "cap": RemaskConfig(eta=0.3),
    "rescale": RemaskConfig(strategy="rescale", eta=0.6),
    "part of the time": RemaskConfig(eta=0.5, begin=0.7, end=0.2),
    "loop": RemaskConfig(eta=0.4, begin=0.75, end=0.25, hold=0.6),
}


def _plan(cfg, steps):
    """For the log-linear schedule: (level, probability of revealing, of remasking) of each step, from the definition."""
    grid = [1 - n / steps for n in range(steps + 1)]
    held = None if cfg.hold is None else 1 - cfg.hold

    def level(t):
        if held is None:
            return t
        if t > cfg.begin:
            return held + (1 - held) * (t - cfg.begin) / (1 - cfg.begin)
        return held if t >= cfg.end else held * t / cfg.end

    plan = []
    for t, s in itertools.pairwise(grid):
        a, b = 1 - level(t), 1 - level(s)
        most = 1.0 if a == 0 else min(1.0, (1 - b) / a)
        sigma = min(cfg.eta, most) if cfg.strategy == "cap" else cfg.eta * most
        sigma *= cfg.end <= s and t <= cfg.begin
        plan.append((1 - a, (b - (1 - sigma) * a) / (1 - a), sigma))
    return plan


@pytest.mark.parametrize("name", REMASK)
def test_remasking_has_its_own_law(law, two_words, batch_of, name):
    wrong = law(longest=2, crooked=1.0)
    chain = Chain(wrong)
    mass, laws = chain.start(), chain.predictions()
    plan = _plan(REMASK[name], 8)
    assert all(0 <= p <= 1 + 1e-12 for row in plan for p in row)
    for level, reveal, sigma in plan:
        mass = chain.step(mass, laws, reveal, lambda state, sigma=sigma: sigma)
        shares = [(np.array(state) == 0).mean() * mass[state] for state in zip(*np.nonzero(mass), strict=True)]
        del level
    assert sum(shares) == pytest.approx(0, abs=1e-12)
    rows = _samples(wrong, two_words, batch_of, length=2, sampler="remask", steps=8, remask=REMASK[name])
    assert _agrees(rows, chain.texts(mass))
    assert not _agrees(rows, _ancestral(chain, 8))


def test_remasking_by_confidence_shares_out_one_probability(law_of, two_words, batch_of):
    """Visible tokens are all alike: each of m is masked with probability sigma / m, and nothing is revealed to make up for it.

    The last column depends on the others, so the law shows whether tokens were drawn together or one after the other.
    """
    canvases = [[7, 7, 7], [7, 8, 8], [8, 7, 8], [8, 8, 7]]
    parity = law_of(canvases, [0.25] * 4)
    chain = Chain(parity)
    mass, laws = chain.start(), chain.predictions()
    cfg = RemaskConfig(strategy="rescale", eta=0.9, confidence=True)
    for n, (_, _, sigma) in enumerate(_plan(cfg, 4)):
        reveal = 1 / (4 - n)
        mass = chain.step(mass, laws, reveal, lambda s, sigma=sigma: sigma / max(1, sum(x != 0 for x in s)))
    rows = _samples(parity, two_words, batch_of, length=2, sampler="remask", steps=4, remask=cfg)
    assert _agrees(rows, chain.texts(mass))
    assert not _agrees(rows, _ancestral(chain, 4))


def test_windows_go_on_with_the_law_of_what_stands_before(law_of, two_words, batch_of):
    """A Markov chain without end, three tokens of which fit the canvas: six are written, two or three at a time."""
    move = np.array([[0.8, 0.2], [0.35, 0.65]])
    stay = np.array([0.35, 0.2]) / 0.55
    strings = list(itertools.product(range(2), repeat=6))
    law = {s: stay[s[0]] * math.prod(move[a, b] for a, b in itertools.pairwise(s)) for s in strings}
    threes = list(itertools.product(range(2), repeat=3))
    canvases = [[FIRST + x for x in s] for s in threes]
    network = law_of(canvases, [stay[s[0]] * move[s[0], s[1]] * move[s[1], s[2]] for s in threes])
    for stride, expected in (
        (2, law),
        (None, law),
        (3, {s: math.prod(float(network.probabilities[threes.index(s[n : n + 3])]) for n in (0, 3)) for s in strings}),
    ):
        rows = _samples(network, two_words, batch_of, length=2, max_new_tokens=6, stride=stride)
        assert _agrees([tuple(x - FIRST for x in row) for row in rows], Counter(expected))
