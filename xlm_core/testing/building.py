"""A family in its smallest size: its four parts, and rows of every layout that it declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xlm_core import composition, searchpath
from xlm_core.canvas import Specials
from xlm_core.config import DiTConfig, RunConfig, TokenizerConfig, TransformerConfig
from xlm_core.data import tokenizers
from xlm_core.testing.declaration import Declaration

if TYPE_CHECKING:
    from xlm_core.families import Family
    from xlm_core.protocols import (
        Batch,
        Collator,
        Example,
        Layout,
        Loss,
        LossOutput,
        Model,
        Prediction,
        Predictor,
        Stage,
        Tokenizer,
    )

DATA = "star_easy"
LENGTH, PROMPT_LENGTH = 6, 4
WORDS = "abcdefgh"
SMALL: dict[str, Any] = {"dim": 32, "layers": 2, "heads": 2, "hidden": None, "dropout": 0.0}
"""Networks that are configured by core's own dataclasses have this size, whatever their YAML says."""

Texts = Sequence[Sequence[int]]
TEXTS: Texts = ((1, 2, 3, 4, 5, 6), (0, 0, 7), (5,), (6, 5, 4, 3), (2, 7))
"""Words of the vocabulary, counted from 0. The first text is as long as there may be."""
PROMPTS: Texts = ((7, 6), (1, 2, 3, 4), (0,), (3, 3), (4, 1, 7))
HOLES: Texts = ((1, 2, 5), (0,), (0,), (0, 3), (1,))
"""infill: which columns of each text are holes."""


class NotApplicable(Exception):
    """The family has nothing that the check is about."""


@dataclass(frozen=True)
class Parts:
    """What the hooks build for one layout."""

    model: Model
    loss: Loss
    predictor: Predictor
    collate: Callable[[Stage, Sequence[Example]], Batch]

    @property
    def trained(self) -> nn.ModuleDict:
        """What an optimiser gets: the model, and a loss that has parameters of its own."""
        parts = {"model": self.model}
        if isinstance(self.loss, nn.Module):
            parts["loss"] = self.loss
        return nn.ModuleDict(parts)

    def measure(self, stage: Stage, examples: Sequence[Example], *, seed: int = 0) -> LossOutput:
        """The loss of examples, in evaluation mode and without gradients."""
        self.trained.eval()
        with torch.no_grad():
            return self.loss(self.collate(stage, examples), seed=seed)

    def decode(self, examples: Sequence[Example], *, seed: int = 0, trace: bool = False) -> Prediction:
        self.trained.eval()
        return self.predictor.predict(self.collate("predict", examples), seed=seed, trace=trace)

    def step(self, optimizer: torch.optim.Optimizer, examples: Sequence[Example], number: int = 0) -> float:
        """One optimiser step, with the global generator set from its number as core does. Returns the loss before it."""
        self.trained.train()
        torch.manual_seed(number)
        optimizer.zero_grad()
        loss = self.loss(self.collate("train", examples), seed=0).loss
        loss.backward()
        optimizer.step()
        return float(loss.detach())


@dataclass(frozen=True)
class Built:
    """A family and what is needed to check it. Parts are built anew whenever they are asked for.

    Args:
        family: loaded. Plugins that wrap its hooks are checked with it.
        declared: what the family says of itself.
    """

    family: Family
    declared: Declaration = field(default_factory=Declaration)

    @property
    def name(self) -> str:
        return self.family.record.name

    @property
    def layouts(self) -> tuple[Layout, ...]:
        return self.family.info.layouts

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return tokenizers.build(TokenizerConfig(kind="words", words=list(WORDS)))

    @cached_property
    def specials(self) -> Specials:
        return Specials.of(self.tokenizer)

    @cached_property
    def _configs(self) -> dict[tuple[str, bool], RunConfig]:
        return {}

    def config(self, layout: Layout, *, packed: bool = False) -> RunConfig:
        """The family's own YAML with `model/NAME_tiny`, if there is one, for short rows of the layout."""
        if (layout, packed) not in self._configs:
            model = [f"model={self.name}_tiny"] if f"model/{self.name}_tiny" in self._files else []
            data = [f"data.layout={layout}", f"data.length={LENGTH}", f"data.prompt_length={PROMPT_LENGTH}"]
            data.append(f"data.packing={str(packed).lower()}")
            overrides = [f"family={self.name}", f"data={DATA}", *data, *model, *self.declared.overrides]
            config = composition.check(composition.compose(overrides, [self.name]), self.family)
            if isinstance(config.model, TransformerConfig | DiTConfig):
                config.model = dataclasses.replace(config.model, **SMALL)
            self._configs[layout, packed] = config
        return self._configs[layout, packed]

    @cached_property
    def _files(self) -> set[str]:
        return {name for source in searchpath.sources([self.name]) for name in source.files()}

    def parts(self, layout: Layout, *, seed: int = 0, shaken: bool = True, packed: bool = False) -> Parts:
        """Build the four parts on the CPU.

        Args:
            seed: of the weights.
            shaken: move all weights away from their initial values, which hide faults where they are zeros.
        """
        config, hook, tokenizer = self.config(layout, packed=packed), self.family.hook, self.tokenizer
        torch.manual_seed(seed)
        model = hook.xlm_model(cfg=config.model, tokenizer=tokenizer)
        loss = hook.xlm_loss(cfg=config.loss, model=model, tokenizer=tokenizer)
        predictor = hook.xlm_predictor(cfg=config.predictor, model=model, tokenizer=tokenizer)

        def collate(stage: Stage, examples: Sequence[Example]) -> Batch:
            arguments = {"cfg": config.collator, "tokenizer": tokenizer, "layout": layout, "stage": stage}
            collator: Collator = hook.xlm_collator(**arguments)
            return collator(examples)

        parts = Parts(model, loss, predictor, collate)
        if shaken:
            shake(parts.trained, seed)
        return parts

    @cached_property
    def _seeds(self) -> dict[Layout, int]:
        return {}

    def lively(self, layout: Layout) -> Parts:
        """Parts whose answers are of many lengths: where none has a token, a check of decoding would check nothing.

        Raises:
            AssertionError: no network of several writes a token.
        """
        if layout not in self._seeds:
            written = {seed: self._written(layout, seed) for seed in range(4)}
            if not any(map(any, written.values())):
                raise AssertionError(f"{layout}: {len(written)} networks with random weights never write a token")
            self._seeds[layout] = max(written, key=lambda seed: len(set(written[seed])))
        return self.parts(layout, seed=self._seeds[layout])

    def _written(self, layout: Layout, seed: int) -> list[int]:
        """How many tokens each answer has beside those that are visible from the beginning."""
        prompts = self.prompts(layout)
        answers = tokens(self.parts(layout, seed=seed).decode(prompts).ids, self.specials.pad)
        if layout != "infill":
            return [len(answer) for answer in answers]
        visible = [sum(token != self.specials.mask for token in prompt["prompt_ids"]) for prompt in prompts]
        return [len(answer) - seen for answer, seen in zip(answers, visible, strict=True)]

    def rows(self, layout: Layout, *, first: int = 0) -> list[Example]:
        """Examples of different lengths.

        Args:
            first: the draw of the first of them.
        """
        texts = [self.ids(text) for text in TEXTS]
        rows: list[Example] = [{"draw": first + n, "input_ids": text} for n, text in enumerate(texts)]
        for row, text, prompt, holes in zip(rows, texts, PROMPTS, HOLES, strict=True):
            if layout == "seq2seq":
                row["prompt_ids"] = self.ids(prompt)
            elif layout == "infill":
                row["prompt_ids"] = [self.specials.mask if n in holes else token for n, token in enumerate(text)]
        return rows

    def prompts(self, layout: Layout, *, first: int = 0) -> list[Example]:
        """Rows to decode. In lm, some are to be generated from nothing and some continue a text."""
        rows = self.rows(layout, first=first)
        if layout != "lm":
            return rows
        begun = [list(row["input_ids"])[: n % 3] for n, row in enumerate(rows)]
        return [{"draw": row["draw"], "input_ids": [], "prompt_ids": text} for row, text in zip(rows, begun, strict=True)]

    def packed(self) -> list[Example]:
        """lm rows of documents that end in EOS, all of `LENGTH` tokens."""
        eos = self.specials.eos
        whole = [[*self.ids((1, 2, 3)), eos, *self.ids((4,)), eos], self.ids((1, 2, 3, 4, 5, 6))]
        segments = [[0, 0, 0, 0, 1, 1], [0] * LENGTH]
        parts = zip(whole, segments, strict=True)
        return [{"draw": n, "input_ids": ids, "segment_ids": part} for n, (ids, part) in enumerate(parts)]

    def ids(self, words: Sequence[int]) -> list[int]:
        """Ids of words of the vocabulary, counted from 0."""
        first: int = self.tokenizer.convert_tokens_to_ids(WORDS[0])  # type: ignore[assignment]
        return [first + word for word in words]


def shake(module: nn.Module, seed: int = 0) -> None:
    """Add noise to all weights, so much that every column that is read matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter.shape[-1] if parameter.ndim > 1 else 16
            noise = torch.randn(parameter.shape, generator=generator) * 2 / fan_in**0.5
            parameter.add_(noise.to(parameter.dtype))


def tokens(ids: Tensor, pad_id: int) -> list[list[int]]:
    """The rows of right-padded ids, without padding."""
    return [[token for token in row if token != pad_id] for row in ids.tolist()]
