"""Published networks that look at texts: loaded without running any code of theirs, fed in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xlm_core.errors import ConfigError


@dataclass(frozen=True)
class Judge:
    """A causal language model with its tokenizer.

    Args:
        name: Hub name or local folder. Only safetensors are read.
        revision: of a Hub name.
        max_length: most tokens of a text that are read.
        batch_tokens: at most so many tokens, padding included, in one forward pass.
        device: auto takes a GPU where there is one.
    """

    name: str
    revision: str | None
    max_length: int
    batch_tokens: int
    device: str

    def load(self) -> Reader:
        """
        Raises:
            ConfigError: there is no such model.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.name, revision=self.revision, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                self.name, revision=self.revision, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            raise ConfigError(f"the model {self.name!r} cannot be loaded", str(error).splitlines()[0]) from error
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device)
        limit = getattr(model.config, "max_position_embeddings", None) or self.max_length
        return Reader(model.to(device).eval(), tokenizer, min(self.max_length, limit), self.batch_tokens)


@dataclass(frozen=True)
class Reader:
    """A loaded judge."""

    model: Any
    tokenizer: Any
    max_length: int
    batch_tokens: int

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The judge's tokens of each text, cut at the longest that it reads, without any special token of its own."""
        return [self.tokenizer(text, add_special_tokens=False)["input_ids"][: self.max_length] for text in texts]

    def batches(self, ids: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Texts of similar length together, the longest first, so that a batch that does not fit fails at once.

        Yields:
            The places of B texts in `ids`; their tokens (B, L) int64, padded on the right, where a causal model never looks;
            and which of them are real, (B, L) bool.
        """
        places: list[int] = []
        for place in sorted((i for i, tokens in enumerate(ids) if tokens), key=lambda i: -len(ids[i])):
            if places and (len(places) + 1) * len(ids[places[0]]) > self.batch_tokens:
                yield self._padded(places, ids)
                places = []
            places.append(place)
        if places:
            yield self._padded(places, ids)

    def _padded(self, places: list[int], ids: Sequence[Sequence[int]]) -> tuple[list[int], Tensor, Tensor]:
        device = self.model.device
        width = len(ids[places[0]])
        padded = torch.tensor([[*ids[place], *[0] * (width - len(ids[place]))] for place in places], device=device)
        lengths = torch.tensor([len(ids[place]) for place in places], device=device)
        return places, padded, torch.arange(width, device=device) < lengths[:, None]
