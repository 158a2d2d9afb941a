"""Build and run: the page to read first.

    CLI -> families.load -> compose -> check -> build(tokenizer, model, loss, predictor, data) -> Harness -> Trainer -> Result

A run folder holds config.yaml (resolved), environment.json, tokenizer/, metrics.csv, checkpoints/, predictions/ and results/.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xlm_core import composition, environment, families
from xlm_core.config import RunConfig
from xlm_core.data import tokenizers
from xlm_core.data.module import DataModule
from xlm_core.errors import CheckpointError, ConfigError
from xlm_core.evaluation import evaluators, metrics
from xlm_core.evaluation.evaluators import Evaluator
from xlm_core.evaluation.prompts import WithPrompts
from xlm_core.evaluation.statistics import Estimate
from xlm_core.families import Family
from xlm_core.protocols import Batch, Collator, Example, Loss, Model, Predictor, Stage, Tokenizer
from xlm_core.training import checkpoints, precision, trainer
from xlm_core.training.harness import Harness

if TYPE_CHECKING:
    from xlm_core.trace import Trace


@dataclass(frozen=True)
class Parts:
    """What a config and a family make."""

    tokenizer: Tokenizer
    model: Model
    loss: Loss
    predictor: Predictor
    data: DataModule
    collate: Callable[[Stage], Collator]


@dataclass(frozen=True)
class Sample:
    """One generated text."""

    prompt: str
    text: str
    ids: list[int]
    nfe: int
    trace: Trace | None


@dataclass(frozen=True)
class Result:
    """What a run measured."""

    metrics: dict[str, Estimate]
    directory: Path
    checkpoint: Path | None
    sample: Sample | None = None
    """One row of the test split, decoded with its trace."""


def build(config: RunConfig, family: Family, *, tokenizer: Tokenizer | None = None) -> Parts:
    """Make the parts that a config describes. The model's weights depend on `config.seed` alone.

    Args:
        tokenizer: the one of an earlier run, instead of the config's.
    """
    composition.slots(config, family)
    tokenizer = tokenizer or tokenizers.build(config.tokenizer, text_path=config.data.path)
    torch.manual_seed(config.seed)
    model = family.hook.xlm_model(cfg=config.model, tokenizer=tokenizer)
    loss = family.hook.xlm_loss(cfg=config.loss, model=model, tokenizer=tokenizer)
    predictor = family.hook.xlm_predictor(cfg=config.predictor, model=model, tokenizer=tokenizer)

    def collate(stage: Stage) -> Collator:
        arguments = {"cfg": config.collator, "tokenizer": tokenizer, "layout": config.data.layout, "stage": stage}
        collator: Collator = family.hook.xlm_collator(**arguments)
        return WithPrompts(collator, tokenizer.pad_token_id) if stage == "predict" else collator

    cfg = config.trainer
    data = DataModule(
        config.data,
        tokenizer,
        collate,
        batch_size=cfg.batch_size,
        micro_batch_size=-(-cfg.batch_size // (cfg.devices * cfg.nodes)) // trainer.accumulation(cfg),
        eval_batch_size=cfg.eval_batch_size or cfg.micro_batch_size,
        seed=config.seed,
        debug=config.debug,
        progress=_say_progress,
    )
    return Parts(tokenizer, model, loss, predictor, data, collate)


def harness(config: RunConfig, family: Family, parts: Parts, folder: Path) -> Harness:
    return Harness(
        parts.model,
        parts.loss,
        parts.predictor,
        parts.tokenizer,
        optimizer=config.optimizer,
        scheduler=config.scheduler,
        likelihood=family.info.likelihood,
        metrics=metrics.resolve(config.data.metrics),
        folder=folder,
        seed=config.seed,
    )


def train(config: RunConfig, family: Family, directory: Path, resume: Path | None = None) -> Result:
    """Train, then measure the test split with the best checkpoint. With trainer.max_steps=0, measure the weights as they are.

    Args:
        directory: the run folder; made when it does not exist.
        resume: a run folder to continue in (then `directory` is that folder), or None.

    Raises:
        Interrupted: a signal stopped it, after a checkpoint.
    """
    composition.check_training(config)
    later = evaluators.build(config.data.evaluators)  # what one of them lacks shows now, and not when training is done
    start = checkpoints.newest(resume / "checkpoints") if resume else None
    saved = tokenizers.load(resume / "tokenizer") if resume else None
    parts = build(config, family, tokenizer=saved)
    if start:
        parts.data.start_step = checkpoints.step_of(start)
    _open(directory, config, family, parts)
    _announce(config, family, parts, directory)
    module = harness(config, family, parts, directory / "predictions")
    if config.trainer.compile:
        _compile(parts.model)
    if config.trainer.max_steps == 0:
        return _measure(config, module, parts, directory, None, "test", later)
    fitter = trainer.fitter(config, directory)
    with environment.log_to(directory / "train.log"):
        fitter.fit(module, datamodule=parts.data, ckpt_path=start, weights_only=True)
    best = checkpoints.locate(directory / "checkpoints", "best")
    if not config.trainer.test or "test" not in config.data.splits:
        return Result(module.estimates, directory, best)
    return _measure(config, module, parts, directory, best, "test", later)


def evaluate(folder: Path, *, split: str = "test", checkpoint: str = "best", overrides: Sequence[str] = ()) -> Result:
    """Measure a split with a checkpoint of a run, with averaged weights where the run kept an average.

    Args:
        folder: of the run.
        split: validation or test.
        checkpoint: best, last, or a path.
        overrides: Hydra overrides on the run's config.

    Raises:
        ConfigError: the data have no such split.
        CheckpointError: no such run or checkpoint.
    """
    config, family = reopen(folder, overrides)
    if split not in config.data.splits or split == "train":
        raise ConfigError(f"{config.data.name} has no split {split!r} to evaluate", f"One of {', '.join(config.data.splits)}.")
    later = evaluators.build(config.data.evaluators)
    path = checkpoints.locate(folder / "checkpoints", checkpoint)
    parts = build(config, family, tokenizer=tokenizers.load(folder / "tokenizer"))
    module = harness(config, family, parts, folder / "predictions")
    return _measure(config, module, parts, folder, path, split, later)


def assess(config: RunConfig, predictions: Path) -> Result:
    """Run the evaluators of `config.data` on a predictions file of any run.

    Raises:
        ConfigError: the data have no evaluators.
        DataError: it is no predictions file.
    """
    chosen = evaluators.build(config.data.evaluators)
    if not chosen:
        hint = "Name one: '+data.evaluators.generative_perplexity={judge: gpt2-large}'."
        raise ConfigError(f"{config.data.name} has no evaluators", hint)
    return Result(_assess(predictions, chosen), predictions.parent, None)


def generate(
    folder: Path,
    *,
    prompts: Sequence[str] | None,
    n: int = 1,
    seed: int = 0,
    checkpoint: str = "best",
    trace: bool = False,
    overrides: Sequence[str] = (),
) -> Iterator[Sample]:
    """Decode with a checkpoint of a run.

    Args:
        folder: of the run.
        prompts: texts to continue or answer (`infill`: with the mask token at each hole). None generates from nothing, or
            answers the first rows of the test split where the data need a prompt.
        n: samples for each prompt; without prompts, how many in all.
        seed: equal seeds give equal texts, whatever is generated beside them.
        checkpoint: best, last, or a path.
        trace: record the event logs.
        overrides: Hydra overrides on the run's config.
    """
    config, family = reopen(folder, overrides)
    path = checkpoints.locate(folder / "checkpoints", checkpoint)
    parts = build(config, family, tokenizer=tokenizers.load(folder / "tokenizer"))
    module = harness(config, family, parts, folder / "predictions")
    checkpoints.load_weights(module, path)
    examples = _examples(config, parts, prompts, n)
    size = config.trainer.eval_batch_size or config.trainer.micro_batch_size
    collate = parts.collate("predict")
    with _inference(config, parts.model) as device:
        for start in range(0, len(examples), size):
            yield from _decode(
                parts, collate(examples[start : start + size]), examples[start : start + size], device, seed, trace
            )


def prepare(config: RunConfig, family: Family | None = None) -> dict[str, Any]:
    """Prepare every split of the data, or find it prepared; returns their manifests. It is the same for every family."""
    del family
    tokenizer = tokenizers.build(config.tokenizer, text_path=config.data.path)
    data = DataModule(
        config.data,
        tokenizer,
        _no_collator,
        progress=_say_progress,
        batch_size=1,
        micro_batch_size=1,
        eval_batch_size=1,
        seed=config.seed,
        debug=config.debug,
    )
    data.prepare_data()
    return {split: data.manifest(split) for split in config.data.splits}


def find(name: str, family: str | None = None, data: str | None = None) -> Path:
    """The folder of a run: a path, or `latest`, the newest that has a checkpoint.

    Args:
        family, data: with `latest` or `auto`, only runs of these.

    Raises:
        CheckpointError: there is no such run.
    """
    if name in ("latest", "auto"):
        pair = f"{family or '*'}/{data or '*'}/*/checkpoints/*.ckpt"
        found = [*Path("runs").glob(pair), *Path("sweeps").glob(f"*/{pair}")]
        if not found:
            what = " of ".join(["there is no run", *filter(None, [family, data])])
            raise CheckpointError(f"{what} with a checkpoint under {Path('runs').resolve()}", "Train one, or give its folder.")
        return max(found, key=lambda path: path.stat().st_mtime).parents[1]
    folder = Path(name)
    if not (folder / "config.yaml").exists():
        raise CheckpointError(f"{folder} is not a run folder", "Give a folder with a config.yaml, or latest.")
    return folder


def reopen(folder: Path, overrides: Sequence[str] = ()) -> tuple[RunConfig, Family]:
    """The config of a run, with overrides, and its family."""
    cfg = composition.reload(folder / "config.yaml", overrides)
    family = families.load(cfg.family.name)
    return composition.check(cfg, family), family


def _open(directory: Path, config: RunConfig, family: Family, parts: Parts) -> None:
    """Make the run folder, once, on the first rank."""
    if int(os.environ.get("LOCAL_RANK", 0)) or (directory / "environment.json").exists():
        return
    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    data = replace(config.data, path=config.data.path and str(Path(config.data.path).resolve()))
    (directory / "config.yaml").write_text(composition.to_yaml(replace(config, data=data)))
    tokenizers.save(parts.tokenizer, directory / "tokenizer")
    facts = environment.describe(family.record) | {"precision": _precision(config)._asdict()}
    (directory / "environment.json").write_text(json.dumps(facts, indent=2) + "\n")


def _measure(
    config: RunConfig,
    module: Harness,
    parts: Parts,
    folder: Path,
    path: Path | None,
    split: str,
    later: Mapping[str, Evaluator],
) -> Result:
    if path:
        checkpoints.load_weights(module, path)
    evaluator = trainer.evaluator(config.trainer, folder)
    run = evaluator.test if split == "test" else evaluator.validate
    run(module, datamodule=parts.data, verbose=False)
    found = dict(module.estimates)
    for predictions in module.predictions if later else ():
        found |= {f"{split}/{name}": estimate for name, estimate in _assess(predictions, later).items()}
    results = folder / "results"
    results.mkdir(exist_ok=True)
    (results / f"{split}_step{module.weights_step or 0:07d}.json").write_text(
        json.dumps({name: asdict(estimate) for name, estimate in found.items()}, indent=2) + "\n"
    )
    return Result(found, folder, path, _one_sample(config, parts, split))


def _assess(predictions: Path, chosen: Mapping[str, Evaluator]) -> dict[str, Estimate]:
    """What evaluators find of each row is written beside the predictions, as `*.scored.jsonl`."""
    rows = evaluators.scored(chosen, evaluators.read(predictions))
    evaluators.write(predictions.with_suffix(".scored.jsonl"), rows)
    return evaluators.summarised(chosen, rows)


def _one_sample(config: RunConfig, parts: Parts, split: str) -> Sample | None:
    if split not in config.data.predict:
        return None
    if config.data.layout == "lm":
        examples: list[Example] = [{"draw": 0, "input_ids": []}]
    else:
        examples = [parts.data.examples(split)[0]]
    with _inference(config, parts.model) as device:
        return next(_decode(parts, parts.collate("predict")(examples), examples, device, config.seed, True))


@contextmanager
def _inference(config: RunConfig, model: Model) -> Iterator[torch.device]:
    device = torch.device(precision.accelerator(config.trainer.accelerator))
    model.to(device).eval()
    bf16 = _precision(config).name == "bf16-mixed"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        yield device


def _decode(
    parts: Parts, batch: Batch, examples: Sequence[Example], device: torch.device, seed: int, trace: bool
) -> Iterator[Sample]:
    moved: Any = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    prediction = parts.predictor.predict(moved, seed=seed, trace=trace)
    traces = prediction.traces or itertools.repeat(None)
    tokenizer = parts.tokenizer
    for example, row, nfe, log in zip(examples, prediction.ids.tolist(), prediction.nfe.tolist(), traces, strict=False):
        ids = [token for token in row if token != tokenizer.pad_token_id]
        prompt = tokenizer.decode(list(example.get("prompt_ids", ())), skip_special_tokens=False)
        yield Sample(str(prompt), str(tokenizer.decode(ids, skip_special_tokens=True)), ids, nfe, log)


def _examples(config: RunConfig, parts: Parts, prompts: Sequence[str] | None, n: int) -> list[Example]:
    if prompts is None and config.data.layout == "lm":
        return [{"draw": i, "input_ids": []} for i in range(n)]
    if prompts is None:
        rows = parts.data.examples("test")
        return rows.__getitems__(range(min(n, len(rows))))
    infill = config.data.layout == "infill"
    ids = [_prompt_ids(parts.tokenizer, prompt, holes=infill) for prompt in prompts]
    repeated = [row for row in ids for _ in range(n)]
    return [{"draw": i, "prompt_ids": row, "input_ids": row if infill else []} for i, row in enumerate(repeated)]


def _prompt_ids(tokenizer: Tokenizer, text: str, *, holes: bool) -> list[int]:
    """Ids of a typed prompt. With `holes` the mask token's own text is a hole; otherwise text never makes a special token."""
    pieces = text.split(tokenizer.mask_token) if holes else [text]
    first, *rest = tokenizers.encode(tokenizer, pieces)
    return [*first, *itertools.chain.from_iterable([tokenizer.mask_token_id, *piece] for piece in rest)]


def _announce(config: RunConfig, family: Family, parts: Parts, directory: Path) -> None:
    """What was decided for the user, once."""
    if int(os.environ.get("LOCAL_RANK", 0)):
        return
    cfg, chosen = config.trainer, _precision(config)
    embeddings = sum(p.numel() for m in parts.model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters())
    total = sum(p.numel() for p in parts.model.parameters())
    lines = (
        f"family     {family.record.name} ({family.record.distribution} {family.record.version})",
        f"data       {config.data.name} ({config.data.layout})",
        f"model      {total:,} parameters, {total - embeddings:,} without embeddings",
        f"batch      {cfg.batch_size} rows a step, {cfg.max_steps:,} steps",
        f"hardware   {precision.accelerator(cfg.accelerator)} x {cfg.devices * cfg.nodes}, {chosen.name} ({chosen.reason})",
        f"run        {directory}",
    )
    print("\n".join(lines), file=sys.stderr, flush=True)


def _precision(config: RunConfig) -> precision.Precision:
    return precision.choose(config.trainer.precision, precision.accelerator(config.trainer.accelerator))


def _compile(model: Model) -> None:
    """Compile a model's repeated blocks where it has them (one compilation serves all), else the whole of it, in place."""
    blocks = getattr(model, "blocks", None)
    for part in blocks if isinstance(blocks, torch.nn.ModuleList) else [model]:
        part.compile()


def _no_collator(stage: Stage) -> Collator:
    raise AssertionError(f"preparing data makes no {stage} batch")


def _say_progress(split: str, done: int, total: int) -> None:
    """How far a preparation is: one line that is written over, and only for somebody who watches."""
    if sys.stderr.isatty():
        print(
            f"\rpreparing {split}: {done:,} of {total:,} rows", end="\n" if done >= total else "", file=sys.stderr, flush=True
        )
