import re

import pytest

from xlm_core.config import DataConfig, SourceConfig, SplitConfig, TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.data.sources import open_split
from xlm_core.errors import DataError
from xlm_core.tasks.lm1b import detokenize, local_files, preprocess
from xlm_core.tasks.lm1b.detokenizer import RULES

GOLDEN = [
    ("See http : / / example.com now", "See http://example.com now"),
    ("See https : / / example.com now", "See https://example.com now"),
    ("It 's what they 're after", "It's what they're after"),
    ("He left . She stayed", "He left. She stayed"),
    ("He left .", "He left."),
    ("Who ? Me", "Who? Me"),
    ("Who is it ?", "Who is it?"),
    ("Stop ! Now", "Stop! Now"),
    ("Stop it !", "Stop it!"),
    ("Red , green , blue", "Red, green, blue"),
    ("Two things : this and that", "Two things: this and that"),
    ("One ; two", "One; two"),
    ("and / or", "and/or"),
    ('He said " come here " twice', 'He said "come here" twice'),
    ("the ' big one ' here", "the 'big one' here"),
    ("it ( the cat ) sat", "it (the cat) sat"),
    ("he [ the king ] sat", "he [the king] sat"),
    ("It cost $ 5 or £ 3", "It cost $5 or £3"),
]


@pytest.mark.parametrize(("raw", "text"), GOLDEN)
def test_golden_strings(raw, text):
    assert detokenize([raw]) == [text]


def test_the_order_of_the_rules_shows():
    # " 's" is joined first, and then stands in the way of the quotes around it
    assert detokenize(["the ' boys 's ' , end ."]) == ["the ' boys's ', end."]
    # the colon of an address is used up by the first rule
    assert detokenize(["at http : / / a.b : now"]) == ["at http://a.b: now"]
    # both full stops want the space between them, so only the first is joined
    assert detokenize(["so a . b . c"]) == ["so a. b . c"]


def test_there_are_nineteen_rules():
    assert len(RULES) == 19


def test_sentences_do_not_touch_each_other():
    raw = [raw for raw, _ in GOLDEN] + ['one " sided', 'quote " here', "open (", ") closed", "end .", "' x", "y '", ""]
    assert detokenize(raw) == [detokenize([one])[0] for one in raw]
    assert detokenize([]) == []


def test_what_has_no_tokenization_to_undo_stays():
    text = 'A plain sentence with 3.5 things, a (note) and a "quote".'
    assert detokenize([text]) == [text]


def test_preprocessing_encodes_the_detokenized_sentence():
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"))
    made = preprocess({"text": ["He left .", "odd\nline !"]}, tokenizer)
    assert [tokenizer.decode(ids) for ids in made["input_ids"]] == ["He left.", "odd line!"]


@pytest.fixture
def archive(tmp_path):
    """The published layout, with one or two sentences a file."""
    training, held_out = (
        tmp_path / "training-monolingual.tokenized.shuffled",
        tmp_path / "heldout-monolingual.tokenized.shuffled",
    )
    training.mkdir()
    held_out.mkdir()
    (tmp_path / "README").write_text("about")
    for n in range(1, 4):
        (training / f"news.en-{n:05d}-of-00100").write_text(f"train {n} a .\ntrain {n} b .\n")
    for n in range(50):
        (held_out / f"news.en.heldout-{n:05d}-of-00050").write_text(f"held {n} .\n")
    return tmp_path


def config(path):
    source = SourceConfig(kind="hub", name="billion-word-benchmark/lm1b", function="xlm_core.tasks.lm1b.local_files")
    splits = {
        "train": SplitConfig("train"),
        "validation": SplitConfig("test", [0.5, 1.0], 3),
        "test": SplitConfig("test", [0.0, 0.5]),
    }
    return DataConfig(name="lm1b", layout="lm", path=str(path), source=source, splits=splits)


@pytest.mark.parametrize("streaming", [False, True])
def test_the_published_archive_is_read_in_order(archive, streaming, tmp_path):
    rows = open_split(config(archive), "train", scratch=tmp_path / "scratch", streaming=streaming)
    assert [row["text"] for row in rows] == [f"train {n} {part} ." for n in (1, 2, 3) for part in "ab"]


def test_validation_and_test_are_different_files_of_what_was_held_out(archive, tmp_path):
    test = open_split(config(archive), "test", scratch=tmp_path / "scratch")["text"]
    validation = open_split(config(archive), "validation", scratch=tmp_path / "scratch")["text"]
    assert test[:] == [f"held {n} ." for n in range(25)]
    assert validation[:] == [f"held {n} ." for n in range(25, 28)]


def test_an_incomplete_archive_is_refused(archive):
    next((archive / "heldout-monolingual.tokenized.shuffled").iterdir()).unlink()
    with pytest.raises(DataError, match=re.escape("49 files")):
        local_files("test", str(archive))
    with pytest.raises(DataError, match="dev"):
        local_files("dev", str(archive))


def test_copies_in_other_layouts_are_left_to_the_file_names(tmp_path):
    (tmp_path / "train.txt").write_text("a b .\n")
    (tmp_path / "test.txt").write_text("c .\nd .\n")
    assert local_files("train", str(tmp_path)) is None
    assert open_split(config(tmp_path), "train", scratch=tmp_path / "s")["text"][:] == ["a b ."]
    assert open_split(config(tmp_path), "validation", scratch=tmp_path / "s")["text"][:] == ["d ."]
