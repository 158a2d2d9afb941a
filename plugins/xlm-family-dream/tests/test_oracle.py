"""The loss and the decoder against laws whose every string is enumerated."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from math import exp, log

import pytest
import torch
from scipy.stats import chisquare
from xlm_family_dream.config import LossConfig, PredictorConfig
from xlm_family_dream.loss import DreamLoss
from xlm_family_dream.predictor import DreamPredictor

from xlm_core.config import SamplingConfig

P, M, E, B = 0, 2, 3, 4
DRAWS = 6_000
PLAIN = SamplingConfig(temperature=1.0)


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
    """The canvases of texts in a slot: BOS, the text, EOS behind it to the end."""
    return {(B, *text, *[E] * (length + 1 - len(text))): weight for text, weight in weights.items()}


def _texts(prediction):
    return [tuple(token for token in row if token != P) for row in prediction.ids.tolist()]


def _cut(canvas):
    return canvas[1 : canvas.index(E)] if E in canvas else canvas[1:]


def _normalised(weights):
    whole = sum(weights.values())
    return {key: weight / whole for key, weight in weights.items()}


# What a decoder's law is, by definition: tokens at all masks, then an order of the masks, then how many of them are written.


def _tempered(law, token):
    """Temperature, then the nucleus of everything, then the k best."""
    if token.temperature == 0:
        return {max(law, key=law.get): 1.0}
    law = _normalised({word: p ** (1 / token.temperature) for word, p in law.items()})
    kept, mass = {}, 0.0
    for word, p in sorted(law.items(), key=lambda item: -item[1]):
        if mass < (token.top_p or 2.0) and len(kept) < (token.top_k or 99):
            kept[word] = p
        mass += p
    return _normalised(kept)


def _sureness(law, order, word):
    ranked = sorted([*law.values(), 0.0], reverse=True)
    if order == "entropy":
        return sum(p * log(p) for p in law.values() if p > 0)
    return ranked[0] - ranked[1] if order == "prob_diff" else law[word]


def _orders(sure, cfg):
    """(order of the masked columns, its probability)."""
    if cfg.order == "random":
        ways = list(itertools.permutations(sure))
        return [(way, 1 / len(ways)) for way in ways]
    if cfg.order_temperature == 0:
        return [(tuple(sorted(sure, key=lambda column: (-sure[column], column))), 1.0)]
    weight = {column: exp(value / cfg.order_temperature) for column, value in sure.items()}
    found = []
    for way in itertools.permutations(sure):
        probability, left = 1.0, sum(weight.values())
        for column in way:
            probability *= weight[column] / left
            left -= weight[column]
        found.append((way, probability))
    return found


def _chosen(sure, cfg, steps, step):
    """[(columns that a step writes, probability)]."""
    left = max(steps - step, 1)
    rate = 1.0
    if left > 1:
        rate = 1 - (1 - (1 - 1e-3) * (step + 1) / steps) / (1 - (1 - 1e-3) * step / steps)
    if cfg.schedule == "linear" and cfg.order == "random":
        sets = [s for n in range(len(sure) + 1) for s in itertools.combinations(sure, n)]
        return [(s, rate ** len(s) * (1 - rate) ** (len(sure) - len(s))) for s in sets if rate < 1 or len(s) == len(sure)]
    count = int(len(sure) * rate) if cfg.schedule == "linear" else -(-len(sure) // left)
    return [(way[:count], probability) for way, probability in _orders(sure, cfg)]


def _decoded(truth, canvas, cfg, steps, step=0, nfe=0):
    """{(canvas, evaluations): probability} of what decoding ends in."""
    masks = [column for column, token in enumerate(canvas) if token == M]
    if not masks:
        return {(canvas, nfe): 1.0}
    laws = {column: _tempered(truth.conditional(canvas, column), cfg.token) for column in masks}
    chances = defaultdict(float)
    for words in itertools.product(*laws.values()):
        drawn = dict(zip(masks, words, strict=True))
        chance = 1.0
        for column, word in drawn.items():
            chance *= laws[column][word]
        sure = {column: _sureness(laws[column], cfg.order, word) for column, word in drawn.items()}
        for columns, probability in _chosen(sure, cfg, steps, step):
            more = [c for c in masks if cfg.threshold and columns and laws[c][drawn[c]] >= cfg.threshold]
            after = tuple(drawn[c] if c in (*columns, *more) else token for c, token in enumerate(canvas))
            end = after.index(E) if E in after else len(after)
            after = tuple(E if token == M and column > end else token for column, token in enumerate(after))
            chances[after, nfe + bool(columns)] += chance * probability
    found = defaultdict(float)
    for (after, evaluations), chance in chances.items():
        for end, probability in _decoded(truth, after, cfg, steps, step + 1, evaluations).items():
            found[end] += chance * probability
    return dict(found)


@pytest.mark.parametrize(
    "options",
    [{"order": "random"}, {"order": "prob_diff"}, {"order": "entropy", "order_temperature": 0.3}, {"block_size": 2}],
    ids=str,
)
@pytest.mark.parametrize(("words", "lengths"), [(2, (0, 1, 2, 3)), (3, (1, 3))])
def test_one_mask_at_a_time_gives_the_data_law_in_any_order(law, lm, tokenizer, strings, options, words, lengths):
    """Lengths through EOS included. With exact conditionals an order may be any function of what is visible."""
    weights = strings(words, lengths)
    predictor = DreamPredictor(PredictorConfig(token=PLAIN, **options), law(_filled(weights, 3), noise=True), tokenizer)
    prediction = predictor.predict(lm([[]] * DRAWS, "predict", length=3), seed=1)
    assert _agrees(_texts(prediction), _normalised(weights))


PARALLEL = [
    {"order": "random", "steps": 2},
    {"order": "random", "schedule": "linear"},
    {"order": "random", "schedule": "linear", "steps": 2, "token": SamplingConfig(temperature=0.0)},
    {"order": "random", "threshold": 0.5},
    {"order": "top_prob"},
    {"order": "top_prob", "steps": 2, "order_temperature": 0.2},
    {"order": "prob_diff", "steps": 2, "token": SamplingConfig(temperature=0.5)},
    {"order": "entropy", "schedule": "linear", "steps": 4, "order_temperature": 0.5},
    {"order": "entropy", "threshold": 0.4, "token": SamplingConfig(temperature=1.5, top_k=2)},
    {"order": "top_prob", "threshold": 0.6, "token": SamplingConfig(temperature=0.7, top_p=0.8)},
    {"order": "prob_diff", "schedule": "linear", "token": SamplingConfig(top_p=0.7, top_k=2)},
]


@pytest.mark.parametrize("options", PARALLEL, ids=str)
def test_any_decoder_gives_the_law_of_that_decoder(law, lm, tokenizer, options):
    """Texts and numbers of evaluations together: 27 canvases, all of them possible."""
    generator = torch.Generator().manual_seed(3)
    canvases = [(B, *text) for text in itertools.product((7, 8, E), repeat=3)]
    truth = law(dict(zip(canvases, (torch.rand(27, generator=generator) ** 3 + 0.01).tolist(), strict=True)), noise=True)
    cfg = PredictorConfig(**{"token": PLAIN, **options})
    expected = defaultdict(float)
    for (canvas, nfe), probability in _decoded(truth, (B, M, M, M), cfg, cfg.steps or 3).items():
        expected[_cut(canvas), nfe] += probability
    assert sum(expected.values()) == pytest.approx(1)
    assert len(expected) > 1
    prediction = DreamPredictor(cfg, truth, tokenizer).predict(lm([[]] * DRAWS, "predict", length=2), seed=2)
    assert _agrees(list(zip(_texts(prediction), prediction.nfe.tolist(), strict=True)), expected)


def test_holes_are_filled_by_the_law_given_the_rest(law, infill, tokenizer, strings):
    weights = strings(3, (3,))
    truth = law({(B, *text): weight for text, weight in weights.items()}, noise=True)
    patterns = [((7, 8, 9), {0}), ((9, 7, 7), {0, 2}), ((8, 8, 8), {0, 1, 2}), ((7, 9, 8), {1, 2})]
    batch = infill(patterns * (DRAWS // 4), "predict")
    rows = _texts(DreamPredictor(PredictorConfig(token=PLAIN), truth, tokenizer).predict(batch, seed=0))
    for n, (text, holes) in enumerate(patterns):
        fits = {s: w for s, w in weights.items() if all(k in holes or s[k] == text[k] for k in range(3))}
        assert _agrees(rows[n::4], _normalised(fits))


def test_answers_follow_the_law_of_their_prompt(law, seq2seq, tokenizer, strings):
    """Two prompts of different lengths in one batch."""
    laws = {(9, 7): strings(2, (0, 1, 2), seed=1), (8,): strings(2, (0, 1, 2), seed=2)}
    joint = {
        (*prompt, *canvas): weight
        for prompt, weights in laws.items()
        for canvas, weight in _filled(_normalised(weights), 2).items()
    }
    batch = seq2seq([(prompt, ()) for prompt in laws] * (DRAWS // 2), "predict", length=2)
    predictor = DreamPredictor(PredictorConfig(order="random", token=PLAIN), law(joint, noise=True), tokenizer)
    rows = _texts(predictor.predict(batch, seed=1))
    for n, weights in enumerate(laws.values()):
        assert _agrees(rows[n::2], _normalised(weights))
        assert not _agrees(rows[1 - n :: 2], _normalised(weights))


@pytest.mark.parametrize("length", [3, 4])
def test_the_bound_is_exact_for_exact_conditionals(law, lm, strings, length):
    """The mean of `nll` over masks is -log p of the text and its length, whatever the text."""
    weights = strings(2, (1, 2, 3))
    loss = DreamLoss(LossConfig(), law(_filled(weights, length)))
    for text in ((7,), (8, 7), max(weights, key=weights.get)):
        term = loss(lm([text] * 8_000, length=length), seed=0).terms["nll"]
        error = term.total.std() / len(term.total) ** 0.5
        assert (term.total.mean() + log(_normalised(weights)[text])).abs() < 4 * error
        assert error < 0.05
        assert (term.count == len(text) + 1).all()


def test_the_loss_is_the_cross_entropy_of_the_exact_conditionals(law, lm, strings):
    weights = strings(2, (0, 1, 2, 3))
    truth = law(_filled(weights, 3))
    batch = lm(list(weights) * 3, length=3)
    out = DreamLoss(LossConfig(weight="tokens"), truth)(batch, seed=0)
    rows = []
    for canvas, clean in zip(batch["input_ids"].tolist(), batch["target_ids"].tolist(), strict=True):
        masks = [column for column, token in enumerate(canvas) if token == M]
        rows += [-log(truth.conditional(tuple(canvas), column)[clean[column]]) for column in masks]
    assert out.loss.item() == pytest.approx(sum(rows) / len(rows))
    assert out.weight == len(rows)
