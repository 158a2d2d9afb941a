"""The loss and the decoder against laws whose every string is enumerated."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from math import exp, log

import pytest
import torch
from scipy.stats import chisquare
from xlm_family_mlm.config import LossConfig, PredictorConfig
from xlm_family_mlm.loss import MlmLoss
from xlm_family_mlm.predictor import MlmPredictor

from xlm_core.config import SamplingConfig

P, M, E, B = 0, 2, 3, 4
DRAWS = 8_000


def _agrees(rows, expected):
    """Chi-square at 0.1 %, over strings that should be seen at least five times and all others together."""
    seen = Counter(rows)
    assert all(expected.get(string, 0.0) > 0 for string in seen)
    common = [string for string, probability in expected.items() if probability * len(rows) >= 5]
    observed = [seen[string] for string in common]
    means = [expected[string] * len(rows) for string in common]
    if len(rows) - sum(means) > 1e-6 * len(rows):
        observed.append(len(rows) - sum(observed))
        means.append(len(rows) - sum(means))
    return len(means) == 1 or chisquare(observed, means).pvalue > 1e-3


def _filled(weights, length):
    """The canvases of texts in a slot: EOS behind them to its end."""
    return {(*text, *[E] * (length + 1 - len(text))): weight for text, weight in weights.items()}


def _texts(prediction):
    return [tuple(token for token in row if token != P) for row in prediction.ids.tolist()]


def _cut(canvas):
    return canvas[: canvas.index(E)] if E in canvas else canvas


def _normalised(weights):
    whole = sum(weights.values())
    return {key: weight / whole for key, weight in weights.items()}


# What a decoder's law is, by definition: every order in which it may take the masks, then every token at each that it takes.


def _sureness(law, order):
    ranked = sorted([*law.values(), 0.0], reverse=True)
    if order == "entropy":
        return sum(p * log(p) for p in law.values() if p > 0)
    return ranked[0] - (ranked[1] if order == "prob_diff" else 0.0)


def _orders(laws, cfg):
    """(order of the masked columns, its probability)."""
    columns = list(laws)
    if cfg.order == "random":
        ways = list(itertools.permutations(columns))
        return [(way, 1 / len(ways)) for way in ways]
    sure = {column: _sureness(law, cfg.order) for column, law in laws.items()}
    if cfg.order_temperature == 0:
        return [(tuple(sorted(columns, key=lambda column: (-sure[column], column))), 1.0)]
    weight = {column: exp(value / cfg.order_temperature) for column, value in sure.items()}
    found = []
    for way in itertools.permutations(columns):
        probability, left = 1.0, sum(weight.values())
        for column in way:
            probability *= weight[column] / left
            left -= weight[column]
        found.append((way, probability))
    return found


def _taken(way, laws, cfg, step):
    """How many of the columns a step takes."""
    count = 1 if cfg.steps is None else -(-len(way) // max(cfg.steps - step, 1))
    if cfg.threshold is None:
        return count
    spent, sure = 0.0, 0
    for column in way:
        if spent >= cfg.threshold:
            break
        sure += 1
        spent += (0 if cfg.order == "entropy" else 1) - _sureness(laws[column], cfg.order)
    return max(count, sure)


def _tempered(law, cfg):
    if cfg.token.temperature == 0:
        return {max(law, key=law.get): 1.0}
    return _normalised({token: p ** (1 / cfg.token.temperature) for token, p in law.items()})


def _decoded(truth, canvas, cfg, step=0):
    """{(canvas, steps): probability} of what decoding ends in."""
    masks = [column for column, token in enumerate(canvas) if token == M]
    if not masks:
        return {(canvas, step): 1.0}
    laws = {column: truth.conditional(canvas, column) for column in masks}
    chances, found = defaultdict(float), defaultdict(float)
    for way, chance in _orders(laws, cfg):
        chances[frozenset(way[: _taken(way, laws, cfg, step)])] += chance
    for chosen, chance in chances.items():
        options = [[(column, token, p) for token, p in _tempered(laws[column], cfg).items()] for column in chosen]
        for writes in itertools.product(*options):
            after, probability = list(canvas), chance
            for column, token, p in writes:
                after[column], probability = token, probability * p
            first = after.index(E) if E in after else len(after)
            after = tuple(E if token == M and column > first else token for column, token in enumerate(after))
            for end, p in _decoded(truth, after, cfg, step + 1).items():
                found[end] += probability * p
    return dict(found)


CONFIDENT = [
    {"order": order, **noise} for order in ("top_prob", "prob_diff", "entropy") for noise in ({}, {"order_temperature": 0.3})
]


@pytest.mark.parametrize("options", [{}, *CONFIDENT], ids=str)
@pytest.mark.parametrize(("words", "lengths"), [(2, (0, 1, 2, 3)), (3, (1, 3))])
def test_one_mask_at_a_time_gives_the_data_law_in_any_order(law, lm, tokenizer, strings, options, words, lengths):
    """Lengths through EOS included. With exact conditionals an order may be any function of what is visible."""
    weights = strings(words, lengths)
    truth = law(_filled(weights, 3), noise=True)
    predictor = MlmPredictor(PredictorConfig(**options), truth, tokenizer)
    prediction = predictor.predict(lm([[]] * DRAWS, "predict", length=3), seed=1)
    assert _agrees(_texts(prediction), _normalised(weights))
    shares = defaultdict(float)
    for text, weight in _normalised(weights).items():
        shares[len(text)] += weight
    assert _agrees([len(text) for text in _texts(prediction)], shares)


PARALLEL = [
    {"steps": 1},
    {"steps": 2},
    {"steps": 3},
    {"steps": 50},
    {"order": "top_prob", "steps": 2},
    {"order": "prob_diff", "steps": 2},
    {"order": "entropy", "steps": 2},
    {"order": "prob_diff", "order_temperature": 0.2, "steps": 2},
    {"order": "entropy", "order_temperature": 0.5, "steps": 2},
    {"order": "top_prob", "threshold": 0.45},
    {"order": "prob_diff", "threshold": 0.8},
    {"order": "entropy", "threshold": 0.7},
    {"order": "top_prob", "threshold": 0.45, "steps": 2},
    {"order": "prob_diff", "threshold": 0.7, "order_temperature": 0.3, "steps": 3},
    {"steps": 2, "token": SamplingConfig(temperature=0.5)},
    {"order": "top_prob", "steps": 2, "token": SamplingConfig(temperature=0.0)},
]


@pytest.mark.parametrize("options", PARALLEL, ids=str)
def test_many_masks_at_a_time_give_the_law_of_that_decoder(law, lm, tokenizer, options):
    """Texts and numbers of evaluations together, in a slot whose end is to be found: 27 canvases, all of them possible."""
    generator = torch.Generator().manual_seed(3)
    canvases = list(itertools.product((7, 8, E), repeat=3))
    truth = law(dict(zip(canvases, (torch.rand(27, generator=generator) ** 3 + 0.01).tolist(), strict=True)), noise=True)
    cfg = PredictorConfig(**options)
    expected = defaultdict(float)
    for (canvas, steps), probability in _decoded(truth, (M,) * 3, cfg).items():
        expected[_cut(canvas), steps] += probability
    assert sum(expected.values()) == pytest.approx(1)
    prediction = MlmPredictor(cfg, truth, tokenizer).predict(lm([[]] * DRAWS, "predict", length=2), seed=2)
    assert _agrees(list(zip(_texts(prediction), prediction.nfe.tolist(), strict=True)), expected)


@pytest.mark.parametrize("options", [{"steps": 3}, {"order": "prob_diff", "threshold": 1.2, "steps": 3}], ids=str)
def test_many_masks_at_a_time_at_a_given_length(law, lm, tokenizer, strings, options):
    truth = law({(*text, E): weight for text, weight in strings(2, (4,)).items()})
    cfg = PredictorConfig(**options)
    expected = {(canvas[:4], steps): p for (canvas, steps), p in _decoded(truth, (M,) * 4 + (E,), cfg).items()}
    prediction = MlmPredictor(cfg, truth, tokenizer).predict(lm([[]] * DRAWS, "predict", length=4, fill=False), seed=2)
    assert _agrees(list(zip(_texts(prediction), prediction.nfe.tolist(), strict=True)), expected)


def test_holes_are_filled_by_the_law_given_the_rest(law, infill, tokenizer, strings):
    weights = strings(3, (3,))
    truth = law(weights, noise=True)
    patterns = [((7, 8, 9), {0}), ((9, 7, 7), {0, 2}), ((8, 8, 8), {0, 1, 2}), ((7, 9, 8), {1, 2})]
    batch = infill(patterns * (DRAWS // 4), "predict")
    rows = _texts(MlmPredictor(PredictorConfig(), truth, tokenizer).predict(batch, seed=0))
    for n, (text, holes) in enumerate(patterns):
        fits = {s: w for s, w in weights.items() if all(k in holes or s[k] == text[k] for k in range(3))}
        assert _agrees(rows[n::4], _normalised(fits))


def test_answers_follow_the_law_of_their_prompt(law, seq2seq, tokenizer, strings):
    """Two prompts of different lengths in one batch."""
    laws = {(9, 7): strings(2, (0, 1, 2), seed=1), (8,): strings(2, (0, 1, 2), seed=2)}
    joint = {
        (*prompt, B, *canvas): weight
        for prompt, weights in laws.items()
        for canvas, weight in _filled(_normalised(weights), 2).items()
    }
    truth = law(joint, noise=True)
    batch = seq2seq([(prompt, ()) for prompt in laws] * (DRAWS // 2), "predict", length=2)
    rows = _texts(MlmPredictor(PredictorConfig(), truth, tokenizer).predict(batch, seed=1))
    for n, weights in enumerate(laws.values()):
        assert _agrees(rows[n::2], _normalised(weights))
        assert not _agrees(rows[1 - n :: 2], _normalised(weights))


@pytest.mark.parametrize("options", [{"fill": False}, {"packed": True}], ids=str)
def test_lengths_from_a_distribution(law, lm, tokenizer, strings, options):
    """P(text) = P(length) P(text | length), where lengths have other weights than in the data; never an EOS inside."""
    weights = strings(2, (1, 2, 3))
    canvases = {(*text, E): weight for text, weight in weights.items()}
    lengths = {3: 5.0, 1: 2.0, 2: 1.0}
    given = {n: _normalised({s: w for s, w in weights.items() if len(s) == n}) for n in lengths}
    expected = {s: lengths[n] / 8 * p for n, texts in given.items() for s, p in texts.items()}
    batch = lm([[]] * DRAWS, "predict", length=3, lengths=lengths, **options)
    prediction = MlmPredictor(PredictorConfig(), law(canvases), tokenizer).predict(batch, seed=1)
    assert _agrees(_texts(prediction), expected)
    assert prediction.nfe.tolist() == [len(text) for text in _texts(prediction)]


def test_text_is_continued_by_the_law_given_its_beginning(law, lm, tokenizer, strings):
    weights = strings(2, (0, 1, 2, 3))
    truth = law(_filled(weights, 3), noise=True)
    rows = _texts(MlmPredictor(PredictorConfig(), truth, tokenizer).predict(lm([[8]] * DRAWS, "predict", length=3), seed=1))
    assert _agrees(rows, _normalised({s[1:]: w for s, w in weights.items() if s[:1] == (8,)}))


@pytest.mark.parametrize("mean_over", ["tokens", "rows"])
def test_the_loss_is_the_cross_entropy_of_the_exact_conditionals(law, lm, specials, strings, mean_over):
    weights = strings(2, (0, 1, 2, 3))
    truth = law(_filled(weights, 3))
    batch = lm(list(weights) * 3, length=3)
    out = MlmLoss(LossConfig(mean_over=mean_over), _Plain(truth))(batch, seed=0)
    rows = []
    for canvas, clean in zip(batch["input_ids"].tolist(), batch["target_ids"].tolist(), strict=True):
        masks = [column for column, token in enumerate(canvas) if token == M]
        rows.append([-log(truth.conditional(tuple(canvas), column)[clean[column]]) for column in masks])
    some = [row for row in rows if row]
    assert 0 < len(some) < len(rows)
    tokens = sum(map(sum, some)) / sum(map(len, some))
    assert out.loss.item() == pytest.approx(tokens if mean_over == "tokens" else sum(sum(r) / len(r) for r in some) / len(some))
    assert out.weight == (sum(map(len, some)) if mean_over == "tokens" else len(some))


def test_with_rows_of_equal_weight_the_loss_bounds_the_likelihood_exactly(law, lm, strings):
    """The mean over noise of n times a row's loss, given that something is masked, is -log p: the any-order identity."""
    weights = strings(2, (4,))
    truth = law({(*text, E): weight for text, weight in weights.items()})
    text = max(weights, key=weights.get)
    batch = lm([text] * 30_000, length=4, fill=False)
    term = MlmLoss(LossConfig(mean_over="rows"), _Plain(truth))(batch, seed=0).terms["loss"]
    values = 4 * term.total[term.count > 0]
    error = values.std() / len(values) ** 0.5
    assert (values.mean() + log(_normalised(weights)[text])).abs() < 4 * error
    assert error < 0.02


class _Plain:
    """The law as the network of a loss."""

    def __init__(self, truth):
        self.head = truth.head
        self.truth = truth

    def hidden(self, input_ids, *, attention_mask, segment_ids, positions):
        assert segment_ids is None
        assert positions is None
        return self.truth.hidden(input_ids, attention_mask=attention_mask)
