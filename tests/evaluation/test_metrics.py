"""Metrics on hand-made answers."""

from __future__ import annotations

import types

import pytest
import torch

from xlm_core.errors import ConfigError
from xlm_core.evaluation import metrics
from xlm_core.protocols import Prediction
from xlm_core.tasks import sudoku

PAD = 0
MASK = 2
TOKENIZER = types.SimpleNamespace(pad_token_id=PAD, mask_token_id=MASK)


def measure(metric, ids: list[list[int]], target: list[list[int]]) -> dict[str, list[float]]:
    prediction = Prediction(torch.tensor(ids), torch.ones(len(ids), dtype=torch.int64))
    found = metric(prediction, {"target_ids": torch.tensor(target)}, TOKENIZER)
    return {name: (ratio.total / ratio.count).tolist() for name, ratio in found.items()}


def test_exact_match_needs_the_same_tokens_and_the_same_length():
    ids = [[5, 6, 7], [5, 6, PAD], [5, 6, 7], [5, 9, 7]]
    target = [[5, 6, 7], [5, 6, 7], [5, 6, PAD], [5, 6, 7]]
    assert measure(metrics.exact_match, ids, target)["exact_match"] == [1, 0, 0, 0]


def test_exact_match_is_not_taken_in_by_a_batch_that_stops_early():
    """Comparing only the columns of the prediction would call this right."""
    assert measure(metrics.exact_match, [[5, 6]], [[5, 6, 7, 8]])["exact_match"] == [0]
    assert measure(metrics.exact_match, [[5, 6, 7, 8]], [[5, 6]])["exact_match"] == [0]
    assert measure(metrics.exact_match, [[5, 6, PAD, PAD]], [[5, 6]])["exact_match"] == [1]


def test_token_accuracy_counts_the_targets_tokens_and_no_padding():
    assert measure(metrics.token_accuracy, [[5, 6, PAD, PAD]], [[5, 9, PAD, PAD]])["token_accuracy"] == [0.5]


def test_token_accuracy_of_an_empty_target_is_not_nan_in_the_mean():
    prediction = Prediction(torch.tensor([[5], [PAD]]), torch.ones(2, dtype=torch.int64))
    ratio = metrics.token_accuracy(prediction, {"target_ids": torch.tensor([[5], [PAD]])}, TOKENIZER)["token_accuracy"]
    assert ratio.count.tolist() == [1, 0]
    assert ratio.total.tolist() == [1, 0]


def test_hole_accuracy_counts_holes_and_is_not_raised_by_what_was_given():
    prompt = torch.tensor([[5, MASK, MASK], [MASK, 6, 7], [5, 6, 7], [MASK, MASK, MASK]])
    target = torch.tensor([[5, 6, 7], [5, 6, 7], [5, 6, 7], [5, 6, 7]])
    ids = torch.tensor([[5, 6, 8], [9, 6, 7], [5, 6, 7], [5, PAD, PAD]])
    batch = {"prompt_ids": prompt, "target_ids": target}
    ratio = metrics.hole_accuracy(Prediction(ids, torch.ones(4)), batch, TOKENIZER)["hole_accuracy"]
    assert ratio.total.tolist() == [1, 0, 0, 1]
    assert ratio.count.tolist() == [2, 1, 0, 3]
    wide = torch.nn.functional.pad(ids, (0, 2), value=9)
    assert metrics.hole_accuracy(Prediction(wide, torch.ones(4)), batch, TOKENIZER)["hole_accuracy"].count.tolist() == [
        2,
        1,
        0,
        3,
    ]
    with pytest.raises(ConfigError, match="prompt"):
        metrics.hole_accuracy(Prediction(ids, torch.ones(4)), {"target_ids": target}, TOKENIZER)


def test_lengths():
    found = measure(metrics.length, [[5, 6, PAD], [5, 6, 7]], [[5, PAD], [5, 6]])
    assert found == {"length": [2, 3], "target_length": [1, 2]}


def test_a_metric_that_needs_targets_says_so_without_them():
    prediction = Prediction(torch.tensor([[5]]), torch.ones(1, dtype=torch.int64))
    with pytest.raises(ConfigError, match="compares with a target"):
        metrics.exact_match(prediction, {}, TOKENIZER)


def test_names_resolve_and_unknown_ones_are_config_errors():
    found = metrics.resolve(["exact_match", "xlm_core.evaluation.metrics.length"])
    assert found == [metrics.nfe, metrics.exact_match, metrics.length]
    assert metrics.resolve(["xlm_core.tasks.sudoku.valid"])[1] is sudoku.valid
    for name in ("exact_mach", "no.such.module.metric"):
        with pytest.raises(ConfigError, match=name):
            metrics.resolve([name])
