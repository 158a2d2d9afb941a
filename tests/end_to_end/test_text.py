"""Anyone's own text, the benchmark folder layout, and the examples."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = ["the cat sat on the mat", "a dog ran to the park", "birds sing in the old tree", "rain falls on every roof"]
TINY = (
    "trainer.max_steps=3",
    "scheduler.warmup_steps=1",
    "trainer.batch_size=8",
    "trainer.micro_batch_size=8",
    "trainer.log_every=1",
    "data.length=16",
    "model.dim=32",
    "model.layers=2",
    "model.heads=2",
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "own.txt"
    path.write_text("\n".join(f"{WORDS[i % 4]} {i}" for i in range(200)) + "\n")
    return path


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Path:
    """A small GPT-2 with random weights."""
    folder = tmp_path_factory.mktemp("judge")
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"), text_path=None)
    tokenizer.save_pretrained(folder)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["ilm", "arlm"])
def test_own_text_trains_evaluates_and_generates(xlm, text, judge, family):
    arguments = ["train", "-f", family, "-d", "text", f"data.path={text}", "--no-recipe", f"model={family}_tiny", *TINY]
    trained = json.loads(xlm(*arguments, "--json").stdout)["metrics"]
    result = json.loads(xlm("eval", "latest", "--json").stdout)
    evaluated = result["metrics"]
    assert evaluated["test/loss"]["value"] == pytest.approx(trained["test/loss"]["value"], rel=1e-5)
    assert evaluated["test/loss"]["stderr"] > 0
    if family == "arlm":
        assert evaluated["test/perplexity"]["value"] == pytest.approx(math.exp(evaluated["test/nll"]["value"]), rel=1e-4)
        lines = [len(f"{WORDS[i % 4]} {i}") for i in range(190, 200)]
        tokens = sum(lines) + sum(-(-length // 16) for length in lines)  # an EOS behind every row
        expected = evaluated["test/bits_per_token"]["value"] * tokens / sum(lines)
        assert evaluated["test/bits_per_byte"]["value"] == pytest.approx(expected, rel=1e-5)
        assert result["policy"]["specials"] == ["bos", "eos"]
        assert result["policy"]["wrapping"] == {"layout": "lm", "long_rows": "divided", "length": 16}
        judged = f"+data.evaluators.generative_perplexity={{judge: {judge}, device: cpu}}"
        during = json.loads(xlm("eval", "latest", "--json", "+data.predict.test=6", judged).stdout)["metrics"]
        (file,) = text.parent.glob("runs/*/*/*/predictions/test_*[0-9].jsonl")
        later = json.loads(xlm("eval", "--predictions", str(file), "--data", "text", "--json", judged).stdout)["metrics"]
        assert later == {name: during[f"test/{name}"] for name in later}
        scored = [json.loads(line) for line in file.with_suffix(".scored.jsonl").read_text().splitlines()]
        nll, tokens = (sum(row[key] or 0 for row in scored) for key in ("judge_nll", "judge_tokens"))
        assert later["generative_perplexity"]["value"] == pytest.approx(math.exp(nll / tokens))
    hot = {
        "arlm": ["predictor.token.temperature=1"],
        "ilm": ["predictor.token.temperature=1", "predictor.gap.temperature=1", "predictor.stop_threshold=1.1"],
    }[family]
    first, again, other = (xlm("generate", "latest", "-n", "4", "--seed", s, "--json", *hot).stdout for s in ("3", "3", "4"))
    assert first == again
    assert first != other
    assert len(first.splitlines()) == 4


def test_the_benchmark_folder_is_prepared_once(xlm, tmp_path, cache):
    root = tmp_path / "r13output"
    for split, shard, count in (
        ("training-monolingual.tokenized.shuffled", "news.en-{:05d}-of-00100", 3),
        ("heldout-monolingual.tokenized.shuffled", "news.en.heldout-{:05d}-of-00050", 50),
    ):
        (root / split).mkdir(parents=True)
        for i in range(count):
            name = shard.format(i + (split[0] == "t"))
            (root / split / name).write_text("".join(f"{WORDS[i % 4]} , he said {i} {j} .\n" for j in range(8)))
    arguments = ["train", "-f", "arlm", "-d", "lm1b", f"data.path={root}", "tokenizer=byte", "--no-recipe", "model=arlm_tiny"]
    found = json.loads(xlm(*arguments, *TINY, "--json").stdout)["metrics"]
    assert found["test/perplexity"]["value"] > 1
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if "lm1b" in str(path) and path.is_file()}
    assert before
    xlm(*arguments, *TINY)
    after = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if "lm1b" in str(path) and path.is_file()}
    assert {k: v for k, v in after.items() if k.suffix != ".lock"} == {k: v for k, v in before.items() if k.suffix != ".lock"}


def test_the_python_example_runs(tmp_path, text, environment):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "train_in_python.py"), str(text), "out"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "test/perplexity: " in done.stdout
    assert (tmp_path / "out" / "metrics.csv").exists()
