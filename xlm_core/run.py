"""Build and run: the page to read first.

    CLI -> families.load -> compose -> check -> build(tokenizer, model, loss, predictor, data) -> Harness -> Trainer -> Result

A run folder holds config.yaml (resolved), environment.json, tokenizer/, metrics.csv, checkpoints/, predictions/ and results/.

Lightning is imported by what trains and evaluates, where it does: all that `generate` needs is imported in less time.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from xlm_core import composition, decoding, environment, families, results
from xlm_core.config import RunConfig
from xlm_core.data import tokenizers
from xlm_core.data.loaders import Loaders
from xlm_core.decoding import Sample as Sample
from xlm_core.errors import CheckpointError, ConfigError
from xlm_core.evaluation import comparison, evaluators, metrics
from xlm_core.evaluation.comparison import Comparison
from xlm_core.evaluation.evaluators import Evaluator
from xlm_core.evaluation.prompts import WithPrompts
from xlm_core.evaluation.text_bytes import TextBytes, WithBytes
from xlm_core.families import Family
from xlm_core.protocols import Collator, Example, Layout, Loss, Model, Predictor, Stage, Tokenizer
from xlm_core.results import Result as Result
from xlm_core.training import checkpoints, precision
from xlm_core.training.accumulation import accumulation

if TYPE_CHECKING:
    from xlm_core.training.harness import Harness


@dataclass(frozen=True)
class Parts:
    """What a config and a family make."""

    tokenizer: Tokenizer
    model: Model
    loss: Loss
    predictor: Predictor
    data: Loaders
    collate: Callable[[Stage], Collator]


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
        if stage == "predict":
            return WithPrompts(collator, tokenizer.pad_token_id)
        # What is measured of an lm row is all of its text; elsewhere a part of it is given.
        counted = stage == "evaluate" and config.data.layout == "lm" and family.info.likelihood != "none"
        return WithBytes(collator, TextBytes(tokenizer)) if counted else collator

    cfg = config.trainer
    data = Loaders(
        config.data,
        tokenizer,
        collate,
        batch_size=cfg.batch_size,
        micro_batch_size=-(-cfg.batch_size // (cfg.devices * cfg.nodes)) // accumulation(cfg),
        eval_batch_size=cfg.eval_batch_size or cfg.micro_batch_size,
        seed=config.seed,
        debug=config.debug,
        progress=_say_progress,
    )
    return Parts(tokenizer, model, loss, predictor, data, collate)


def harness(config: RunConfig, family: Family, parts: Parts, folder: Path) -> Harness:
    from xlm_core.training.harness import Harness

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
    from xlm_core.training import trainer
    from xlm_core.training.data import DataModule

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
        fitter.fit(module, datamodule=DataModule(parts.data), ckpt_path=start, weights_only=True)
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


def compare(folders: Sequence[Path], split: str = "test") -> Comparison:
    """The last results of runs, as far as they can be compared.

    Raises:
        CheckpointError: a run has no result of the split.
    """
    return comparison.compared({str(folder): results.read(folder, split) for folder in folders})


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
    return Result(results.assess(predictions, chosen), predictions.parent, None)


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
    config, _, parts = restore(folder, checkpoint, overrides)
    examples = _examples(config, parts, prompts, n)
    size = config.trainer.eval_batch_size or config.trainer.micro_batch_size
    collate = parts.collate("predict")
    with decoding.inference(config, parts.model) as device:
        for start in range(0, len(examples), size):
            chunk = examples[start : start + size]
            made = collate(chunk)
            yield from decoding.decode(parts.predictor, parts.tokenizer, made, chunk, device, seed=seed, trace=trace)


def restore(folder: Path, checkpoint: str = "best", overrides: Sequence[str] = ()) -> tuple[RunConfig, Family, Parts]:
    """A run's config, family and parts, with the weights of a checkpoint, averaged where the run kept an average."""
    config, family = reopen(folder, overrides)
    path = checkpoints.locate(folder / "checkpoints", checkpoint)
    parts = build(config, family, tokenizer=tokenizers.load(folder / "tokenizer"))
    checkpoints.load_weights(path, model=parts.model, loss=parts.loss, predictor=parts.predictor)
    return config, family, parts


def prepare(config: RunConfig, family: Family | None = None) -> dict[str, Any]:
    """Prepare every split of the data, or find it prepared; returns their manifests. It is the same for every family."""
    del family
    tokenizer = tokenizers.build(config.tokenizer, text_path=config.data.path)
    data = Loaders(
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
    data.prepare()
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
    from xlm_core.training import trainer
    from xlm_core.training.data import DataModule

    if path:
        module.weights_step = checkpoints.load_weights(path, model=parts.model, loss=parts.loss, predictor=parts.predictor)
    evaluator = trainer.evaluator(config.trainer, folder)
    run = evaluator.test if split == "test" else evaluator.validate
    run(module, datamodule=DataModule(parts.data), verbose=False)
    found = dict(module.estimates)
    for predictions in module.predictions if later else ():
        found |= {f"{split}/{name}": estimate for name, estimate in results.assess(predictions, later).items()}
    result = Result(found, folder, path, _one_sample(config, parts, split), _policy(config, parts, split))
    if evaluator.is_global_zero:
        results.write(result, config.family.name, split, module.weights_step or 0)
    return result


def _policy(config: RunConfig, parts: Parts, split: str) -> dict[str, Any]:
    collate = parts.collate("evaluate")
    around = results.specials(collate, parts.tokenizer, cast(Layout, config.data.layout), packed=config.data.packing)
    return parts.data.policy(split, around, exact_bytes=TextBytes(parts.tokenizer).exact)


def _one_sample(config: RunConfig, parts: Parts, split: str) -> Sample | None:
    if split not in config.data.predict:
        return None
    if config.data.layout == "lm":
        examples: list[Example] = [{"draw": 0, "input_ids": []}]
    else:
        examples = [parts.data.examples(split)[0]]
    batch = parts.collate("predict")(examples)
    with decoding.inference(config, parts.model) as device:
        made = decoding.decode(parts.predictor, parts.tokenizer, batch, examples, device, seed=config.seed, trace=True)
        return next(made)


def _examples(config: RunConfig, parts: Parts, prompts: Sequence[str] | None, n: int) -> list[Example]:
    if prompts is None and config.data.layout == "lm":
        return [{"draw": i, "input_ids": []} for i in range(n)]
    if prompts is None:
        rows = parts.data.examples("test")
        return rows.__getitems__(range(min(n, len(rows))))
    return decoding.prompted(parts.tokenizer, config.data.layout, prompts, n)


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
