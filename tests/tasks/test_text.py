import pytest

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.tasks.text import preprocess

TOKENIZER = tokenizers.build(TokenizerConfig(kind="byte"))


@pytest.mark.parametrize("column", ["text", "body"])
def test_the_text_column_becomes_ids_without_special_tokens(column):
    rows = {"text": ["x"], "body": ["x"], column: ["é [MASK]"]}
    made = preprocess(rows, TOKENIZER, **({} if column == "text" else {"column": column}))
    assert made == {"input_ids": [[7 + byte for byte in "é [MASK]".encode()]]}
