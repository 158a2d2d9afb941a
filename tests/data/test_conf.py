"""The data and tokenizer configs compose under a primary config, which lists `tokenizer` before `data`."""

import itertools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import xlm_core
from xlm_core.config import DebugConfig, RunConfig
from xlm_core.data import tokenizers
from xlm_core.data.dotted import resolve
from xlm_core.data.loaders import Loaders
from xlm_core.evaluation import metrics

CONF = Path(xlm_core.__file__).parent / "conf"
PRIMARY = """
defaults:
  - schema
  - _self_
  - tokenizer: null
  - data: ???
  - recipe: null
hydra:
  searchpath: [pkg://xlm_core.conf]
"""
DATA = sorted(file.stem for file in (CONF / "data").glob("*.yaml"))
PUZZLES = {"sudoku_easy", "sudoku_easy_order", "sudoku_medium", "sudoku_hard", "queens", "queens_10", "coloring", "coloring_10"}
EVALUATED = {"gsm8k", "math500", "safe_fragment"}
DOWNLOADED = {"owt", "owt_packed", "uniref50", "uniref50_packed", "qm9", "safe", "tinygsm", "sudoku", "sudoku_extreme"}
SHIPPED = EVALUATED | DOWNLOADED | {"star_easy", "star_medium", "star_hard", "lm1b", "text", "cfg", "arithmetic"} | PUZZLES


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conf")
    (folder / "primary.yaml").write_text(PRIMARY)
    (folder / "recipe").mkdir()
    (folder / "recipe" / "chars.yaml").write_text("# @package _global_\ndefaults:\n  - override /tokenizer: char\n")
    ConfigStore.instance().store("schema", RunConfig)

    def make(*overrides):
        with initialize_config_dir(str(folder), version_base="1.3"):
            run = compose("primary", list(overrides))
        return OmegaConf.to_object(run.data), OmegaConf.to_object(run.tokenizer)

    return make


def test_the_data_sets_are_there():
    assert set(DATA) >= SHIPPED


@pytest.mark.parametrize("name", DATA)
def test_every_data_config_composes_and_names_what_exists(name, composed):
    data, tokenizer = composed(f"data={name}")
    assert data.name == name
    assert data.title
    assert set(data.splits) == ({"test"} if name in EVALUATED else {"train", "validation", "test"})
    assert tokenizer.kind
    for function in (data.preprocess, data.source.function):
        if function:
            resolve(function)
    assert metrics.resolve(data.metrics)


@pytest.mark.parametrize(
    ("overrides", "kind", "size"),
    [
        (["data=star_easy"], "numbers", 20),
        (["data=star_hard"], "numbers", 56),
        (["data=text"], "byte", None),
        (["data=lm1b"], "pretrained", None),
        (["data=star_easy", "tokenizer=char"], "char", None),
        (["data=star_easy", "tokenizer.size=21"], "numbers", 21),
        (["data=star_easy", "tokenizer.kind=char"], "char", 20),
        (["data=star_easy", "recipe=chars"], "char", None),
        (["data=star_easy", "recipe=chars", "tokenizer=numbers_56"], "numbers", 56),
    ],
)
def test_a_data_set_chooses_its_tokenizer_and_the_command_line_overrides_it(overrides, kind, size, composed):
    _, tokenizer = composed(*overrides)
    assert (tokenizer.kind, tokenizer.size) == (kind, size)


@pytest.mark.parametrize("name", DATA)
def test_what_downloads_says_so_and_names_its_revision_and_licence(name, composed):
    data, _ = composed(f"data={name}")
    assert data.download == (data.source.kind == "hub")
    if data.download:
        assert data.source.name
        assert data.source.revision
        assert data.licence


@pytest.mark.parametrize("name", DATA)
def test_nothing_is_chosen_on_the_test_set(name, composed):
    """No two splits have a row in common, as far as the config divides them; but two of `text`, as it says, are the same."""
    data, _ = composed(f"data={name}")
    used = sorted((split.source, *split.share) for split in data.splits.values() if (name, split.share[0]) != ("text", 0.95))
    for (source, _, stop), (other, start, _) in itertools.pairwise(used):
        assert source != other or stop <= start
    for source in {split.source for split in data.splits.values()}:
        assert len({split.shuffle for split in data.splits.values() if split.source == source}) == 1


def test_the_default_tokenizer_of_lm1b():
    assert OmegaConf.load(CONF / "tokenizer" / "bert.yaml").name == "bert-base-uncased"


def prepared(data, tokenizer, cache):
    sizes = {"batch_size": 8, "micro_batch_size": 8, "eval_batch_size": 8}
    module = Loaders(data, tokenizer, lambda stage: list, **sizes, seed=1, debug=DebugConfig(), cache=cache)
    module.prepare()
    return module


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_star_graphs_are_prepared_and_loaded_as_configured(difficulty, composed, tmp_path):
    sizes = [f"data.source.arguments.{split}={size}" for split, size in {"train": 200, "validation": 20, "test": 30}.items()]
    data, choice = composed(f"data=star_{difficulty}", *sizes)
    tokenizer = tokenizers.build(choice)
    module = prepared(data, tokenizer, tmp_path)
    loss, prediction = module.evaluation("validation")
    assert [sum(map(len, loader)) for loader in (loss, prediction, *module.evaluation("test"))] == [20, 20, 30, 30]
    for example in next(iter(module.training())):
        prompt, target = (tokenizer.decode(example[name]).split() for name in ("prompt_ids", "input_ids"))
        assert prompt[-2:] == [target[0], target[-1]]
        assert (len(prompt), len(target)) <= (data.prompt_length, data.length)
        edges = set(zip(prompt[:-2:2], prompt[1:-2:2], strict=True))
        assert set(zip(target[::2], target[1::2], strict=True)) <= edges


SMALL = {
    "cfg": [],
    "sudoku_easy": ["train=60", "validation=10", "test=20"],
    "sudoku_easy_order": ["train=60", "validation=10", "test=20"],
    "queens": ["most=3"],
    "coloring": ["train=60", "validation=10", "test=20"],
    "coloring_10": ["train=60", "validation=10", "test=20"],
    "arithmetic": ["train=60", "validation=10", "test=20"],
}


@pytest.mark.parametrize("name", SMALL)
def test_generated_rows_fit_and_their_tokens_are_known(name, composed, tmp_path):
    overrides = [f"data.source.arguments.{override}" for override in SMALL[name]]
    overrides += [f"data.splits.{split}.rows=10" for split in ("train", "validation", "test")]
    data, choice = composed(f"data={name}", *overrides)
    tokenizer = tokenizers.build(choice)
    module = prepared(data, tokenizer, tmp_path)
    rows = [row for batch in module.evaluation("test")[0] for row in batch]
    assert len(rows) == 10
    for row in rows:
        assert tokenizer.unk_token_id not in row["input_ids"]
        assert 0 < len(row["input_ids"]) <= data.length
        if data.layout == "infill":
            assert len(row["input_ids"]) == data.length
            assert (row["prompt_ids"] == tokenizer.mask_token_id).any()


def test_text_goes_from_a_file_to_rows(composed, tmp_path):
    lines = [f"line {n} " + "y" * 200 * (n % 2) for n in range(100)]
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    data, choice = composed("data=text", f"data.path={tmp_path / 'mine.txt'}")
    tokenizer = tokenizers.build(choice)
    module = prepared(data, tokenizer, tmp_path / "c")
    loss, samples = module.evaluation("validation")
    pieces = [row["input_ids"] for batch in loss for row in batch]
    assert "".join(tokenizer.decode(piece) for piece in pieces) == "".join(lines[95:])
    assert max(map(len, pieces)) == 128
    assert sum(len(batch) for batch in samples) == 8


def test_the_local_copy_of_lm1b_needs_no_network(composed, tmp_path):
    (tmp_path / "train.txt").write_text("one .\n")
    (tmp_path / "test.txt").write_text("".join(f"held {n} .\n" for n in range(4)))
    data, _ = composed("data=lm1b", f"data.path={tmp_path}")
    tokenizer = tokenizers.build(composed("data=text")[1])
    module = prepared(data, tokenizer, tmp_path / "c")
    (test,), (validation,) = module.evaluation("test"), module.evaluation("validation")
    assert [tokenizer.decode(row["input_ids"]) for row in next(iter(test))] == ["held 0.", "held 1."]
    assert [tokenizer.decode(row["input_ids"]) for row in next(iter(validation))] == ["held 2.", "held 3."]
