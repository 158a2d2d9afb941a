"""What is kept of a measurement, and what a family's collator says of its policy."""

from __future__ import annotations

import os

import pytest

from xlm_core import composition, families, results
from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import CheckpointError
from xlm_core.evaluation.statistics import Estimate
from xlm_core.results import Result


def test_the_newest_result_is_read_as_it_was_written(tmp_path):
    policy = {"tokenizer": "t", "hash": "h"}
    metrics = {"test/accuracy": Estimate(0.5, 0.1, 4, (0.25, 0.75)), "test/loss": Estimate(2.0, None, 1)}
    results.write(Result(metrics, tmp_path, None, policy=policy), "arlm", "test", 20)
    results.write(Result({}, tmp_path, None), "arlm", "test", 3)
    os.utime(tmp_path / "results" / "test_step0000003.json", (1, 1))
    assert results.read(tmp_path, "test") == {
        "family": "arlm",
        "split": "test",
        "step": 20,
        "policy": policy,
        "metrics": {
            "test/accuracy": {"value": 0.5, "stderr": 0.1, "n": 4, "interval": [0.25, 0.75]},
            "test/loss": {"value": 2.0, "stderr": None, "n": 1, "interval": None},
        },
    }
    with pytest.raises(CheckpointError, match="no result of the split validation"):
        results.read(tmp_path, "validation")
    assert {file.name for file in (tmp_path / "results").iterdir()} == {"test_step0000003.json", "test_step0000020.json"}


@pytest.mark.parametrize("name", ["arlm", "mdlm"])
@pytest.mark.parametrize("packed", [False, True])
def test_families_that_wrap_a_text_alike_say_so(name, packed):
    tokenizer = tokenizers.build(TokenizerConfig(kind="words", words=["a", "b"]))
    family = families.load(name)
    config = composition.check(composition.compose([f"family={name}", "data=text", f"data.packing={packed}"], [name]), family)
    collate = family.hook.xlm_collator(cfg=config.collator, tokenizer=tokenizer, layout="lm", stage="evaluate")
    assert results.specials(collate, tokenizer, "lm", packed=packed) == ["bos", "eos"]


@pytest.mark.parametrize(
    "ids, found", [([[7, 7, 7]], []), ([[1, 7, 0]], ["cls"]), ([[7, 5, 2, 6]], ["sep"])], ids=["none", "cls", "sep"]
)
def test_only_what_stands_beside_a_text_is_named(ids, found):
    import torch

    tokenizer = tokenizers.build(TokenizerConfig(kind="words", words=["a", "b"]))
    assert results.specials(lambda examples: {"input_ids": torch.tensor(ids)}, tokenizer, "lm", packed=False) == found
