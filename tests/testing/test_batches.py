"""What is wrong with batches and canvases is found."""

from __future__ import annotations

import pytest
import torch

from xlm_core.testing import batches


def test_a_layout_that_is_declared_and_cannot_be_collated(infilling, fails):
    def refuse(batch, layout, stage):
        if stage == "evaluate":
            raise KeyError("mask_columns")
        return batch

    fails(batches.layouts_collate, infilling, "infill, evaluate: KeyError: 'mask_columns'", batch=refuse)


@pytest.mark.parametrize(
    "key, change, reason",
    [
        ("draw", lambda x: x + 1, "draw is not the .* draw of each example"),
        ("input_ids", lambda x: x.int(), "input_ids is not a .* int64"),
        ("attention_mask", lambda x: x.long(), "attention_mask is not a bool"),
    ],
)
def test_shared_keys(arlm, fails, key, change, reason):
    fails(batches.layouts_collate, arlm, reason, batch=lambda batch, layout, stage: {**batch, key: change(batch[key])})


def test_answers_with_special_tokens(arlm, fails):
    def answer(batch, layout, stage):
        return {**batch, "target_ids": batch["target_ids"].clamp(min=3)}

    fails(batches.layouts_collate, arlm, "predict: target_ids are not the true answers", batch=answer)


def test_a_batch_that_is_drawn_from_the_global_generator(arlm, fails):
    def noisy(batch, layout, stage):
        return {**batch, "input_ids": torch.randint(7, 12, batch["input_ids"].shape)}

    fails(batches.batches_repeat, arlm, "train: collating the same rows again changes input_ids", batch=noisy)


def test_a_loss_that_edits_its_batch(ilm, fails):
    def edit(loss):
        def measure(batch, *, seed):
            batch["input_ids"][:, 0] = 7
            return loss(batch, seed=seed)

        return measure

    fails(batches.batches_stay, ilm, "train: the loss edits input_ids of its batch in place", loss=edit)


def test_a_predictor_that_edits_its_batch(ilm, fails):
    def predict(healthy, batch, **options):
        found = healthy(batch, **options)
        batch["extra"] = found.ids
        return found

    fails(batches.batches_stay, ilm, "the predictor edits extra of its batch in place", predict=predict)


def cut(side):
    """Decoding begins with a column less."""
    columns = slice(1, None) if side == "left" else slice(None, -1)

    def change(batch, layout, stage):
        if stage != "predict":
            return batch
        return {**batch, **{key: batch[key][:, columns] for key in ("input_ids", "attention_mask")}}

    return change


def test_a_canvas_that_begins_one_column_later(ilm, fails):
    fails(batches.canvases_agree, ilm, "CLS, BOS or SEP are not in the same columns", batch=cut("left"))


def test_a_canvas_without_its_bos(arlm, fails):
    fails(batches.canvases_agree, arlm, "CLS, BOS or SEP are not in the same columns", batch=cut("right"))


def test_a_canvas_that_is_one_mask_short(mlm, fails):
    fails(batches.canvases_agree, mlm, "trained as `.*` and decoded from `.*`: 10 columns and 9", batch=cut("right"))


def test_a_canvas_with_another_prompt(mlm, fails):
    def turned(batch, layout, stage):
        ids = batch["input_ids"].clone()
        ids[:, :2] = ids[:, :2].flip(1) if stage == "predict" else ids[:, :2]
        return {**batch, "input_ids": ids}

    fails(batches.canvases_agree, mlm, "training does not begin with what decoding is given", batch=turned)
