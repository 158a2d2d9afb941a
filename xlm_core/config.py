"""The dataclasses that a composed config is checked against. Fields are the config keys, their docstrings the reference.

Each family brings its own for `model`, `loss`, `predictor` and `collator`. OmegaConf reads the annotations: keep them plain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from xlm_core.errors import ConfigError


@dataclass
class SourceConfig:
    """Where rows come from."""

    kind: str = MISSING
    """hub (a data set on the Hugging Face Hub), files (text, jsonl, csv, parquet, arrow) or function."""
    name: Optional[str] = None
    """hub: the repository, as org/name."""
    subset: Optional[str] = None
    """hub: the configuration of the data set."""
    revision: Optional[str] = None
    """hub: commit, tag or branch; recorded with the results."""
    path: Optional[str] = None
    """files: a file, a folder, or a glob pattern."""
    format: Optional[str] = None
    """files: text, jsonl, csv, parquet or arrow; told from the suffix when not given."""
    function: Optional[str] = None
    """function: dotted path of `f(split, **arguments)` that yields rows or returns columns; an argument with the name of the
    split is how many rows it makes, and is lowered to those that are used. hub: of `f(split, path)` that gives
    the files of a local copy with a layout of its own."""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class SplitConfig:
    """Which rows of the source make a split."""

    source: str = "train"
    """The source's own name of the split."""
    share: list[float] = field(default_factory=lambda: [0.0, 1.0])
    """The part of its rows that is used, as the fractions where it starts and ends."""
    rows: Optional[int] = None
    """At most so many rows, from the first."""
    shuffle: Optional[int] = None
    """Permute all rows before the share is taken, as `train_test_split` of Hugging Face's `datasets` does with this seed. The
    edges of the share are rounded up then, as there, so that [0.0, 0.05] is the test set of `test_size=0.05`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Passed to `preprocess` for this split, before `data.arguments`."""


@dataclass
class TokenizerConfig:
    """How text becomes ids. Every tokenizer gets all seven special tokens."""

    kind: str = MISSING
    """pretrained, numbers, words, byte, char or smiles."""
    name: Optional[str] = None
    """pretrained: a Hub name or a local folder. No code from either is run."""
    revision: Optional[str] = None
    size: Optional[int] = None
    """numbers: the words are "0" .. "size - 1"."""
    words: Optional[list[str]] = None
    """words: the vocabulary."""
    path: Optional[str] = None
    """words: a file with one word a line. char: a text file whose characters make the alphabet."""
    alphabet: Optional[str] = None
    """char: the characters, when no file is given; printable ASCII by default."""


@dataclass
class DataConfig:
    """What a data set is. It names no family."""

    name: str = MISSING
    title: str = ""
    """One line for `xlm data list`."""
    licence: str = ""
    """The licence of the data, or where to read it."""
    download: bool = False
    """Whether the first use needs the network."""
    layout: str = MISSING
    """lm, seq2seq or infill."""
    path: Optional[str] = None
    """A local copy or the user's own file, where the source reads one."""
    source: SourceConfig = field(default_factory=SourceConfig)
    preprocess: Optional[str] = None
    """Dotted path of `f(rows, tokenizer, **arguments)`: a batch of columns in, columns of id lists out."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Passed to `preprocess`."""
    length: int = 128
    """Most tokens of `input_ids`. Special tokens come on top."""
    prompt_length: int = 0
    """seq2seq: most tokens of `prompt_ids`."""
    truncate: bool = False
    """Cut longer rows, and count them. Otherwise a longer lm row goes on in the next row; in other layouts it is refused."""
    packing: bool = False
    """lm: join documents into rows of exactly `length` tokens, each document closed by EOS, with `segment_ids`."""
    bucketing: bool = False
    """Put rows of similar length into one training batch."""
    streaming: bool = False
    """Read the training split as a stream instead of preparing it on disk."""
    shuffle_buffer: int = 10000
    """streaming: how many rows the shuffle looks ahead."""
    splits: dict[str, SplitConfig] = field(default_factory=dict)
    """train, validation and test."""
    predict: dict[str, int] = field(default_factory=dict)
    """For which splits evaluation also decodes, and how many rows of each (-1 for all). In the lm layout the rows are
    generated from nothing, so the number is how many samples to draw."""
    metrics: list[str] = field(default_factory=list)
    """Dotted paths, or names in xlm_core.evaluation.metrics, of what is measured on predictions."""
    evaluators: dict[str, Any] = field(default_factory=dict)
    """What is measured on the finished predictions of the last evaluation: names in xlm_core.evaluation.evaluators, or dotted
    paths, each with its arguments."""
    monitor: str = "loss"
    """The validation metric that chooses the best checkpoint."""
    monitor_mode: str = "min"
    workers: int = 0
    """Processes that collate batches."""
    processes: int = 0
    """Processes that prepare data; 0 means one a core."""


@dataclass
class FamilyConfig:
    name: str = MISSING


@dataclass
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter, 2019). Biases and norm gains are not decayed."""

    lr: float = 5e-4
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    weight_decay: float = 0.01
    decay_embeddings: bool = True


@dataclass
class SchedulerConfig:
    """The learning rate over training: linear warm-up to `optimizer.lr`, then `kind`."""

    kind: str = "constant"
    """constant, linear, cosine or inverse_sqrt."""
    warmup_steps: int = 1000
    final: float = 0.0
    """linear and cosine: the fraction of `optimizer.lr` at the last step."""
    cycles: int = 1
    """cosine: begin anew from `optimizer.lr` so many times, at equal distances; each cycle goes down to `final`."""


@dataclass
class TrainerConfig:
    max_steps: int = MISSING
    """Optimiser steps."""
    batch_size: int = 512
    """Rows in one optimiser step, over all ranks."""
    micro_batch_size: int = 64
    """Most rows that one rank computes at once; gradients are accumulated to `batch_size`."""
    eval_batch_size: Optional[int] = None
    """Rows at once in evaluation and prediction; `micro_batch_size` when not given."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0 for no clipping."""
    precision: str = "auto"
    """auto, bf16 or fp32. auto takes bf16 autocast where the hardware computes in it."""
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    threads: Optional[int] = None
    """CPU threads; torch's own choice when not given."""
    compile: bool = False
    """torch.compile the network."""
    eval_every: int = 1000
    """Steps between validations; 0 for none."""
    log_every: int = 50
    """Steps between rows of metrics.csv."""
    test: bool = True
    """Evaluate the test split with the best checkpoint when training is done."""
    deterministic: bool = False
    """Only algorithms that repeat bit for bit. On one CPU they do anyway."""


@dataclass
class EmaConfig:
    """Exponential moving average of the weights, used for every evaluation and generation."""

    decay: float = 0.9999
    """0 for none. The decay at update n is min(decay, (1 + n) / (10 + n))."""


@dataclass
class CheckpointConfig:
    every: int = 1000
    """Steps between checkpoints that --resume starts from."""
    keep_last: int = 1
    """How many of those to keep."""
    keep_every: int = 0
    """Keep those at multiples of so many steps for good; 0 for none."""
    best: bool = True
    """Keep the best by data.monitor."""


@dataclass
class LoggerConfig:
    """Beside metrics.csv, which is always written."""

    tensorboard: bool = False
    wandb: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class DebugConfig:
    """Changes for looking at a run rather than for results. Chosen by `debug=NAME`."""

    name: str = "none"
    rows: Optional[int] = None
    """Use only the first rows of each split."""
    overfit: bool = False
    """Train and evaluate on the same rows."""
    print_batch: bool = False
    """Print the first batch of each loader, decoded."""
    detect_anomaly: bool = False


@dataclass
class SamplingConfig:
    """How one choice is drawn from logits, with the meanings of Hugging Face's generation options."""

    temperature: float = 1.0
    """Logits are divided by it; 0 takes the most probable."""
    top_k: Optional[int] = None
    """Only the k most probable."""
    top_p: Optional[float] = None
    """Only the most probable that together reach this mass, the one that reaches it included."""

    def __post_init__(self) -> None:
        if (
            self.temperature < 0
            or (self.top_k is not None and self.top_k < 1)
            or (self.top_p is not None and not 0 < self.top_p <= 1)
        ):
            raise ConfigError(f"{self} is no way to sample", "temperature is at least 0, top_k at least 1, top_p in (0, 1].")


@dataclass
class TransformerConfig:
    """Sizes of xlm_core.nn.transformer.RotaryTransformer. Families extend it for their `model` node."""

    dim: int = 768
    layers: int = 12
    heads: int = 12
    hidden: Optional[int] = None
    """Width inside the MLP; 4 * dim when not given."""
    dropout: float = 0.1
    activation: str = "relu"
    """relu, gelu, or gelu_tanh, an approximation of it that is the slower one on CPU."""
    rotary_dims: int = 64
    """How many dimensions of a head are rotated (all of a smaller head); 0 for no rotary positions."""
    learned_positions: int = 0
    """Add learned embeddings of so many absolute positions to the tokens' (as GPT-2 has); 0 for rotary positions alone."""
    conv_reach: int = 0
    """Mix the embeddings of so many tokens on each side into each token's before the first layer; 0 for none."""
    final_norm: bool = True
    """A norm before the vocabulary head."""
    init_std: float = 0.02
    """Standard deviation of the initial weights."""


@dataclass
class DiTConfig:
    """Sizes of xlm_core.nn.dit.DiT. Families extend it for their `model` node."""

    dim: int = 768
    layers: int = 12
    heads: int = 12
    hidden: Optional[int] = None
    """Width inside the MLP; 4 * dim when not given."""
    dropout: float = 0.1
    """Of what each block adds to the residual stream."""
    activation: str = "gelu_tanh"
    """relu, gelu, or gelu_tanh, an approximation of it that is the slower one on CPU."""
    rotary_dims: int = 64
    """How many dimensions of a head are rotated (all of a smaller head); 0 for no rotary positions."""
    learned_positions: int = 0
    """Add learned embeddings of so many absolute positions to the tokens'; 0 for rotary positions alone."""
    conv_reach: int = 0
    """Mix the embeddings of so many tokens on each side into each token's before the first layer; 0 for none."""
    init_std: Optional[float] = None
    """Standard deviation of the initial weights that are not zero; torch's own initialisation, and 0.02 for embeddings, when
    not given."""
    conditioning_dim: int = 128
    """Width of the conditioning vector."""
    residual: str = "input"
    """What attention is added to: the block's `input`, as published, or its modulated, `normalised` input. Only weights that
    were trained with the second wiring need it."""


@dataclass
class RunConfig:
    """A whole run."""

    family: FamilyConfig = field(default_factory=FamilyConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: Any = None
    loss: Any = None
    predictor: Any = None
    collator: Any = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    debug: DebugConfig = field(default_factory=DebugConfig)
    extensions: dict[str, Any] = field(default_factory=dict)
    """What wraps the hooks of any family: by name, the `_target_` of a class of hook wrappers, and its arguments."""
    seed: int = 1
