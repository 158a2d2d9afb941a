from dataclasses import replace

import pytest

from xlm_core.config import DataConfig, SourceConfig, SplitConfig, TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.data.preprocessing import Preprocessing
from xlm_core.errors import ConfigError, DataError

TOKENIZER = tokenizers.build(TokenizerConfig(kind="numbers", size=20))


def preprocessing(layout="lm", **fields):
    config = DataConfig(
        name="mine",
        layout=layout,
        source=SourceConfig(kind="function"),
        splits={"train": SplitConfig()},
        length=4,
        prompt_length=2,
    )
    return Preprocessing(replace(config, **fields), TOKENIZER, "train")


def process(preprocessing, rows, first=0):
    processed = preprocessing(rows, first)
    return {name: [row.tolist() for row in column.rows()] for name, column in processed.columns.items()}, dict(processed.counts)


def test_rows_of_ids_need_no_preprocessing():
    columns, counts = process(preprocessing(), {"input_ids": [[1, 2], [], [3]], "source": ["a", "b", "c"]})
    assert columns == {"input_ids": [[1, 2], [], [3]]}
    assert counts == {"rows_in": 3, "rows_out": 3, "tokens": 3}


def test_long_lm_rows_go_on_in_the_next_row_or_are_cut():
    rows = {"input_ids": [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4]]}
    columns, counts = process(preprocessing(), rows)
    assert columns["input_ids"] == [[1, 2, 3, 4], [5, 6, 7, 8], [9], [1, 2, 3, 4]]
    assert (counts["divided"], counts["rows_out"], counts["tokens"]) == (1, 4, 13)
    columns, counts = process(preprocessing(truncate=True), rows)
    assert columns["input_ids"] == [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert (counts["truncated"], counts["tokens"]) == (1, 8)


def test_rows_to_be_packed_keep_their_length():
    columns, _ = process(preprocessing(packing=True), {"input_ids": [[1] * 9]})
    assert columns["input_ids"] == [[1] * 9]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            {"prompt_ids": [[1]] * 2 + [[1, 2, 3]], "input_ids": [[1]] * 3},
            "row 12 of the split train has 3 tokens in prompt_ids",
        ),
        (
            {"prompt_ids": [[1]] * 3, "input_ids": [[1], [1] * 5, [1] * 6]},
            "row 11 of the split train has 5 tokens in input_ids",
        ),
    ],
)
def test_long_seq2seq_rows_are_refused_by_name(rows, words):
    with pytest.raises(DataError) as caught:
        preprocessing("seq2seq")(rows, 10)
    assert words in caught.value.message
    assert "data.truncate=true" in caught.value.hint


def test_cut_prompts_keep_their_end_and_targets_their_start():
    rows = {"prompt_ids": [[1, 2, 3]], "input_ids": [[1, 2, 3, 4, 5]]}
    columns, counts = process(preprocessing("seq2seq", truncate=True), rows)
    assert columns == {"prompt_ids": [[2, 3]], "input_ids": [[1, 2, 3, 4]]}
    assert counts["truncated"] == 1


def test_infilling_rows_are_cut_alike_in_both_columns():
    rows = {"prompt_ids": [[2, 2, 9, 2, 2]], "input_ids": [[7, 8, 9, 10, 11]]}
    columns, _ = process(preprocessing("infill", truncate=True), rows)
    assert columns == {"prompt_ids": [[2, 2, 9, 2]], "input_ids": [[7, 8, 9, 10]]}
    with pytest.raises(DataError, match=r"data\.length"):
        preprocessing("infill")(rows, 0)


@pytest.mark.parametrize(
    ("layout", "body", "words"),
    [
        ("lm", "return {'input_ids': [[27]]}", "ids that the tokenizer does not have"),
        ("lm", "return {'input_ids': [[-1]]}", "ids that the tokenizer does not have"),
        ("lm", "return {'input_ids': [['a']]}", "not lists of ids"),
        ("lm", "return {'input_ids': [1]}", "not lists of ids"),
        ("lm", "return {'ids': [[1]]}", "gives ids"),
        ("lm", "return {'input_ids': [[1]], 'extra': [[1]]}", "input_ids, extra"),
        ("lm", "return None", "gives NoneType"),
        ("seq2seq", "return {'input_ids': [[1]]}", "gives input_ids"),
        ("seq2seq", "return {'input_ids': [[1]], 'prompt_ids': []}", "different numbers of rows"),
        ("infill", "return {'input_ids': [[1]], 'prompt_ids': [[]]}", "different lengths"),
        ("lm", "return rows['nothing']", "KeyError: 'nothing'"),
    ],
)
def test_faults_of_a_preprocessing_function_are_explained(layout, body, words, user_module):
    module = user_module(f"def f(rows, tokenizer):\n    {body}\n")
    with pytest.raises(DataError) as caught:
        preprocessing(layout, preprocess=f"{module}.f")({"text": ["a"]}, 0)
    assert words in caught.value.message
    assert module in caught.value.message
    assert caught.value.hint


def test_arguments_reach_the_preprocessing_function(user_module):
    module = user_module("def f(rows, tokenizer, shift):\n    return {'input_ids': [[n + shift] for n in rows['n']]}\n")
    columns, _ = process(preprocessing(preprocess=f"{module}.f", arguments={"shift": 3}), {"n": [1, 2]})
    assert columns["input_ids"] == [[4], [5]]


def test_wrong_options_are_config_errors():
    with pytest.raises(ConfigError, match="layout 'chat'"):
        preprocessing("chat")
    with pytest.raises(ConfigError, match="length is 0"):
        preprocessing(length=0)
    with pytest.raises(ConfigError, match="cannot be packed"):
        preprocessing("seq2seq", packing=True)


def test_only_blank_lines_of_text_files_are_skipped(text_config):
    config = text_config(["a", "", "  ", "b"])
    processed = Preprocessing(config, tokenizers.build(TokenizerConfig(kind="byte")), "train")(
        {"text": ["a", "", "  ", "b"]}, 0
    )
    assert processed.counts == {"rows_in": 4, "rows_out": 2, "tokens": 2, "blank": 2}
    columns, counts = process(preprocessing(), {"input_ids": [[], [1]]})
    assert (columns["input_ids"], counts["rows_out"]) == ([[], [1]], 2)
