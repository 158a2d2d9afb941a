"""What the four parts of a family are, and what passes between them.

Shapes: B rows, L columns, T generated columns, V vocabulary. Ids are int64, masks are bool with True for "is a real token".
Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerFast

    from xlm_core.trace import Trace

    Tokenizer: TypeAlias = PreTrainedTokenizerFast
    Model: TypeAlias = nn.Module
else:
    Tokenizer = Model = Tensor = Any

Layout = Literal["lm", "seq2seq", "infill"]
"""What an example holds. `lm`: `input_ids`. `seq2seq`: `prompt_ids` and `input_ids`, the target. `infill`: `input_ids`, the
whole sequence, and `prompt_ids`, the same sequence with the mask token at every hole."""

Stage = Literal["train", "evaluate", "predict"]
"""`train` and `evaluate` feed the loss, `predict` feeds the predictor."""

Likelihood = Literal["exact", "bound", "none"]


class Example(TypedDict, total=False):
    """One row of a data set. Ids carry no special tokens: a family adds the ones that it needs."""

    draw: int
    input_ids: Sequence[int]
    prompt_ids: Sequence[int]
    segment_ids: Sequence[int]


class Batch(TypedDict, total=False):
    """The keys that every family shares; a family documents its own beside them. Nobody edits a batch in place."""

    draw: Tensor
    """(B,) int64. Which draw from the data a row is: its place in the endless training stream, or its row number in
    evaluation and prediction. All randomness of a row is a function of (seed, draw), so it does not depend on the
    batch, the worker or the rank that the row falls in."""
    input_ids: Tensor
    """(B, L) int64. What the network reads."""
    attention_mask: Tensor
    """(B, L) bool."""
    target_ids: Tensor
    """(B, T) int64. In `predict`: the true answer without special tokens, right-padded; absent where there is none."""
    prompt_ids: Tensor
    """(B, P) int64. In `predict`: the examples' `prompt_ids`, right-padded; absent where there are none. Core adds it, for
    metrics."""
    bytes: Tensor
    """(B,) float64. In `evaluate`, `lm`: bytes of UTF-8 text that the row stands for. Core adds it, for bits per byte."""


@dataclass(frozen=True)
class Ratio:
    """A mean over units that is kept as sums per row, so that any grouping of rows gives the same value and standard error."""

    total: Tensor
    """(B,) float: the row's sum over its units."""
    count: Tensor
    """(B,) float: how many units the row has."""


@dataclass(frozen=True)
class LossOutput:
    """What a loss returns."""

    loss: Tensor
    """() float, differentiable: a mean over `weight` units (tokens, rows, ...)."""
    weight: Tensor
    """() float: over how many units `loss` is a mean. Micro-batches and ranks are averaged with these weights."""
    terms: Mapping[str, Ratio] = field(default_factory=dict)
    """Detached statistics. `loss` is reported as the loss with its standard error; `nll`, in nats with tokens as units, makes
    core report perplexity, bits per token and, in `lm`, bits per byte, called exact or a bound as the family declares."""


@dataclass(frozen=True)
class Prediction:
    """What a predictor returns."""

    ids: Tensor
    """(B, T) int64: the generated tokens without special tokens, right-padded with the pad id. In `seq2seq` that is the
    answer alone; in `lm` everything after the prompt; in `infill` the whole sequence, visible tokens included."""
    nfe: Tensor
    """(B,) int64: network evaluations that the row took part in. Their maximum is the number of forward calls."""
    traces: Sequence[Trace] | None = None
    """One event log a row, when asked for. Replaying a trace gives the row's `ids` without padding."""


@runtime_checkable
class Loss(Protocol):
    """The training objective. It holds the model that it was built with. One with parameters of its own is an `nn.Module`
    (that keeps the model out of its own submodules), and they are trained with the model's."""

    def __call__(self, batch: Batch, *, seed: int) -> LossOutput:
        """Differentiable loss of a `train` or `evaluate` batch.

        Args:
            batch: made by the family's collator.
            seed: with `batch["draw"]` it fixes any noise that the loss draws.
        """
        ...


@dataclass(frozen=True)
class Scores:
    """How probable given texts are."""

    log_likelihood: Tensor
    """(B,) float64, in nats: log p, or a lower bound of it, as the family declares."""
    greedy: Tensor | None = None
    """(B,) bool: whether the most probable token at every place is the text's; None for families that write in any order."""


@runtime_checkable
class LikelihoodScorer(Protocol):
    """What a loss may be beside: one that scores a text given what stands before it, for harnesses of others."""

    def log_likelihood(self, batch: Batch, *, seed: int) -> Scores:
        """log p(input_ids | prompt_ids) of each example.

        Args:
            batch: an `evaluate` batch. An `lm` example that has `prompt_ids` is a text that goes on after its `input_ids`: the
                collator puts no end behind it.
            seed: with `batch["draw"]` it fixes any noise.
        """
        ...


@runtime_checkable
class Predictor(Protocol):
    """The decoder. It holds the model that it was built with."""

    def predict(self, batch: Batch, *, seed: int, trace: bool = False) -> Prediction:
        """Decode a `predict` batch under `torch.inference_mode`.

        Args:
            batch: made by the family's collator.
            seed: with `batch["draw"]` it fixes every random choice, whatever other rows are in the batch.
            trace: record the event log.
        """
        ...


Collator: TypeAlias = Callable[[Sequence[Example]], Batch]


@dataclass(frozen=True)
class FamilyInfo:
    """What a family declares of itself. Made without importing torch."""

    title: str
    """One line for `xlm families list`."""
    paper: str
    """Where the method comes from: an arXiv id or URL, or "" for a baseline."""
    layouts: tuple[Layout, ...]
    likelihood: Likelihood
    """What the `nll` term is: the exact negative log-likelihood, an upper bound of it, or not there."""
    configs: Mapping[str, type]
    """The dataclasses of the config nodes `model`, `loss`, `predictor` and `collator`."""
    variable_length: bool = False
    """Whether the family chooses the length of what it generates."""
    time_conditioned: bool = False
    """Whether the network reads the diffusion time."""
    packed: bool = False
    """Whether the family trains on packed rows (`segment_ids`)."""
