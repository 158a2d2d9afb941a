from __future__ import annotations

import pickle

import numpy as np
import torch

from xlm_core.evaluation.prompts import WithPrompts


def collate(examples):
    return {"draw": torch.tensor([example["draw"] for example in examples])}


def test_prompts_are_put_beside_what_a_family_makes_of_them():
    examples = [{"draw": 3, "prompt_ids": np.array([5, 6], np.uint16)}, {"draw": 4, "prompt_ids": [7]}]
    batch = WithPrompts(collate, 0)(examples)
    assert batch["draw"].tolist() == [3, 4]
    assert batch["prompt_ids"].tolist() == [[5, 6], [7, 0]]
    assert batch["prompt_ids"].dtype == torch.int64


def test_what_has_no_prompt_is_left_alone():
    assert list(WithPrompts(collate, 0)([{"draw": 3, "input_ids": []}])) == ["draw"]


def test_a_worker_can_be_sent_one():
    assert pickle.loads(pickle.dumps(WithPrompts(collate, 0))) == WithPrompts(collate, 0)
