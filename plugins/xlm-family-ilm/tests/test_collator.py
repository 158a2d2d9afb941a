"""Dropping: its law, its targets on every layout against a twin in plain Python, and the canvases of training and decoding."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from scipy import stats
from xlm_family_ilm.collator import random_subset

from xlm_core.errors import ConfigError

LAYOUTS = ["lm", "seq2seq", "infill"]
A, B, C, D, E = 7, 8, 9, 10, 11


def test_the_example_of_the_paper(collate, choose):
    """Of `a b c d e` drop a, b and d: `CLS BOS c e` with a and b right of BOS and d right of c."""
    choose([{0, 1, 3}])
    batch = collate("lm", input_ids=[[A, B, C, D, E]])
    assert batch["input_ids"].tolist() == [[1, 4, C, E]]
    columns = batch["gaps"].gather(1, batch["target_gaps"])[batch["target_mask"]].tolist()
    assert list(zip(columns, batch["target_tokens"][0].tolist(), strict=True)) == [(1, A), (1, B), (2, D)]


def twin(specials, layout, example, dropped, insert_in_prompt):
    """What a row becomes: its canvas, its open columns, and its targets as (column, token)."""
    prompt, text = example.get("prompt_ids", []), example["input_ids"]
    canvas = [(specials.cls, False, False)]  # token, may it be dropped, may something be inserted right of it
    if layout == "infill":
        free = [token == specials.mask for token in prompt]
        following = [*free, False]
        canvas.append((specials.bos, False, following[0]))
        canvas += [(token, free[i], free[i] or following[i + 1]) for i, token in enumerate(text)]
    else:
        canvas += [*((token, False, insert_in_prompt) for token in prompt), (specials.bos, False, True)]
        canvas += [(token, True, True) for token in text]
    kept, targets, number = [], [], 0
    for token, free, opened in canvas:
        if free and number in dropped:
            targets.append((len(kept) - 1, token))
        else:
            kept.append((token, opened))
        number += free
    return [token for token, _ in kept], [c for c, (_, opened) in enumerate(kept) if opened], targets


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("insert_in_prompt", [False, True])
@pytest.mark.parametrize("pad_to_longest", [False, True])
def test_every_layout_equals_its_twin(collate, choose, specials, layout, insert_in_prompt, pad_to_longest):
    rng = random.Random(0)
    for _ in range(40):
        texts = [[rng.choice([A, B, C]) for _ in range(rng.randint(0, 6))] for _ in range(4)]
        prompts = [[rng.choice([D, E]) for _ in range(rng.randint(0, 3))] for _ in range(4)]
        if layout == "infill":
            prompts = [[specials.mask if rng.random() < 0.5 else token for token in text] for text in texts]
        subsets = [{i for i in range(6) if rng.random() < 0.5} for _ in range(4)]
        choose(subsets)
        # Without padding to the longest row, the widths are those of the longest row that the config allows.
        options = {"insert_in_prompt": insert_in_prompt, "pad_to_longest": pad_to_longest, "length": 6, "prompt_length": 3}
        columns = {"input_ids": texts} if layout == "lm" else {"input_ids": texts, "prompt_ids": prompts}
        batch = collate(layout, **columns, **options)
        for i, subset in enumerate(subsets):
            example = {"input_ids": texts[i]} | ({} if layout == "lm" else {"prompt_ids": prompts[i]})
            canvas, opened, targets = twin(specials, layout, example, subset, insert_in_prompt)
            mask, gap_mask, target_mask = (batch[name][i] for name in ("attention_mask", "gap_mask", "target_mask"))
            assert batch["input_ids"][i][mask].tolist() == canvas
            assert mask.tolist() == [True] * len(canvas) + [False] * (len(mask) - len(canvas))
            assert (batch["input_ids"][i][~mask] == specials.pad).all()
            assert batch["gaps"][i][gap_mask].tolist() == opened
            found = batch["gaps"][i][batch["target_gaps"][i]][target_mask].tolist()
            assert list(zip(found, batch["target_tokens"][i][target_mask].tolist(), strict=True)) == targets
            assert {column for column, _ in targets} <= set(opened)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_putting_the_targets_back_gives_the_clean_row(collate, rows, specials, layout):
    for draw in range(50):
        batch = collate(layout, draws=range(draw * 5, draw * 5 + 5), **rows[layout])
        for i, text in enumerate(rows[layout]["input_ids"]):
            kept = batch["input_ids"][i][batch["attention_mask"][i]].tolist()
            columns = batch["gaps"][i][batch["target_gaps"][i]].tolist()
            targets = zip(columns, batch["target_tokens"][i].tolist(), batch["target_mask"][i].tolist(), strict=True)
            for column, token, real in reversed(list(targets)):
                if real:
                    kept.insert(column + 1, token)
            prompt = rows[layout].get("prompt_ids", [[]] * 5)[i] if layout == "seq2seq" else []
            assert kept == [specials.cls, *prompt, specials.bos, *text]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_number_is_uniform_and_the_subset_of_that_size_too(n):
    """P(S) = 1 / ((n + 1) * binomial(n, |S|)); free tokens are not the first ones of the row."""
    draws = 30_000
    free = torch.tensor([False, True, True, False, True, True, False])
    free[free.nonzero()[n:, 0]] = False
    dropped = random_subset(torch.arange(draws), free.expand(draws, -1), seed=3)
    assert not dropped[:, ~free].any()
    numbers = dropped.sum(-1)
    assert stats.chisquare(torch.bincount(numbers, minlength=n + 1).numpy()).pvalue > 1e-4
    codes = (dropped[:, free].long() * 2 ** torch.arange(n)).sum(-1)
    expected = [draws / ((n + 1) * math.comb(n, code.bit_count())) for code in range(2**n)]
    assert stats.chisquare(torch.bincount(codes, minlength=2**n).numpy(), expected).pvalue > 1e-4
    share = dropped[:, free].double().mean(0)
    assert (share - 0.5).abs().max() < 4 * 0.5 / math.sqrt(draws)  # n/2 of n tokens


def test_a_row_is_dropped_alone_as_in_a_batch(collate, rows):
    whole = collate("lm", draws=[4, 7, 100, 2, 9], seed=5, **rows["lm"])
    for i, text in enumerate(rows["lm"]["input_ids"]):
        alone = collate("lm", draws=[[4, 7, 100, 2, 9][i]], seed=5, input_ids=[text])
        for name, mask in (("input_ids", "attention_mask"), ("gaps", "gap_mask"), ("target_tokens", "target_mask")):
            assert alone[name][0][alone[mask][0]].tolist() == whole[name][i][whole[mask][i]].tolist()


def test_draw_and_seed_choose_what_is_dropped(collate):
    text = [[A, B, C, D, E]]

    def kept(draw, seed):
        return str(collate("lm", draws=[draw], seed=seed, input_ids=text)["input_ids"].tolist())

    assert kept(3, 3) == kept(3, 3)
    assert len({kept(draw, 0) for draw in range(8)}) > 3
    assert len({kept(0, seed) for seed in range(8)}) > 3


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("insert_in_prompt", [False, True])
def test_decoding_starts_from_the_canvas_of_a_row_that_lost_everything(collate, choose, rows, layout, insert_in_prompt):
    choose([set(range(9))] * 5)
    train = collate(layout, "train", insert_in_prompt=insert_in_prompt, **rows[layout])
    predict = collate(layout, "predict", insert_in_prompt=insert_in_prompt, **rows[layout])
    for name in ("draw", "input_ids", "attention_mask", "gaps", "gap_mask"):
        assert torch.equal(train[name], predict[name]), name


def test_decoding_starts_where_the_answer_begins(collate, rows, specials):
    lm = collate("lm", "predict", input_ids=[[], [A]], prompt_ids=[[B, C], []])
    assert lm["input_ids"].tolist() == [[1, 4, B, C], [1, 4, 0, 0]]
    assert lm["start"].tolist() == [4, 2]
    assert lm["gaps"][lm["gap_mask"]].tolist() == [3, 1]
    assert "target_ids" not in lm
    seq2seq = collate("seq2seq", "predict", **rows["seq2seq"])
    for i, prompt in enumerate(rows["seq2seq"]["prompt_ids"]):
        assert seq2seq["start"][i] == len(prompt) + 2
        assert seq2seq["input_ids"][i][: len(prompt) + 2].tolist() == [specials.cls, *prompt, specials.bos]
        answer = rows["seq2seq"]["input_ids"][i]
        assert seq2seq["target_ids"][i].tolist() == answer + [specials.pad] * (5 - len(answer))
    assert collate("infill", "predict", **rows["infill"])["start"].tolist() == [2] * 5


def test_generation_from_nothing_has_no_dead_columns(collate):
    batch = collate("lm", "predict", input_ids=[[]] * 3, length=128, pad_to_longest=False)
    assert batch["input_ids"].tolist() == [[1, 4]] * 3


def test_an_infill_prompt_without_an_answer(collate, specials):
    """`xlm generate` knows no answer: the mask tokens stand in for it and are never seen."""
    holes = [[A, specials.mask, specials.mask, B]]
    batch = collate("infill", "predict", input_ids=holes, prompt_ids=holes)
    assert batch["input_ids"].tolist() == [[1, 4, A, B]]
    assert batch["gaps"].tolist() == [[2]]


def test_batches_of_one_shape_when_asked_for(collate):
    options = {"length": 6, "prompt_length": 3, "pad_to_longest": False}
    for extra, gaps in (({}, 7), ({"insert_in_prompt": True}, 10)):
        for texts, prompts in (([[A]], [[B]]), ([[A] * 6], [[B] * 3])):
            batch = collate("seq2seq", input_ids=texts, prompt_ids=prompts, **options, **extra)
            shapes = [batch[name].shape[1] for name in ("input_ids", "gaps", "gap_mask", "target_gaps", "target_tokens")]
            assert shapes == [11, gaps, gaps, 6, 6]


def test_a_row_that_does_not_fit_is_an_error(collate):
    with pytest.raises(ConfigError, match="does not fit"):
        collate("lm", input_ids=[[A] * 5], length=4, pad_to_longest=False)


def test_rows_of_nothing_and_rows_that_lost_nothing(collate, choose):
    choose([set(), set()])
    batch = collate("lm", input_ids=[[], [A]])
    assert batch["target_tokens"].shape == (2, 0)
    assert batch["target_tokens"].dtype == batch["target_gaps"].dtype == torch.int64


def test_the_collator_does_not_share_its_numbers_with_the_decoder():
    from xlm_core.sampling.random import RowRandom

    draw, free = torch.arange(2000), torch.ones(2000, 9, dtype=torch.bool)
    count = random_subset(draw, free, seed=1).sum(-1)
    decoder = RowRandom(1, draw).integers(0, torch.full_like(draw, 10))
    assert abs(stats.pearsonr(count.numpy(), decoder.numpy()).statistic) < 4 / math.sqrt(2000)


def test_examples_are_not_changed(collate):
    texts = [torch.tensor([A, B]), [C]]
    first = collate("lm", draws=[1, 2], input_ids=texts)
    again = collate("lm", draws=[1, 2], input_ids=texts)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert [list(map(int, text)) for text in texts] == [[A, B], [C]]


def test_every_subset_is_reached_from_the_collator(collate):
    seen = {tuple(collate("lm", draws=[draw], input_ids=[[A, B, C]])["input_ids"][0].tolist()) for draw in range(200)}
    expected = {(1, 4, *kept) for size in range(4) for kept in itertools.combinations((A, B, C), size)}
    assert seen == expected
