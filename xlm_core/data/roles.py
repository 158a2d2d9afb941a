"""What each token of a row is there for, for somebody who looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from xlm_core.canvas import Specials
from xlm_core.protocols import Batch, Example, Tokenizer

ROLES = ("prompt", "target", "text", "given", "hole", "bos", "eos", "cls", "sep", "unk", "pad")


class Token(NamedTuple):
    """A token of a row."""

    token: str
    """As the tokenizer writes it."""
    id: int
    role: str
    """One of `ROLES`. `given` and `hole` are of the infill layout; a `hole` is also what a collator has masked."""


def of_example(example: Example, layout: str, tokenizer: Tokenizer) -> list[Token]:
    """The tokens of an example: the prompt before the target; in the infill layout the whole row, holes filled."""
    mask = Specials.of(tokenizer).mask
    prompt, ids = ([int(i) for i in example.get(name, ())] for name in ("prompt_ids", "input_ids"))  # type: ignore[attr-defined]
    if layout == "infill":
        return _named(ids, ("hole" if shown == mask else "given" for shown in prompt), tokenizer)
    content = ["text" if layout == "lm" else "target"] * len(ids)
    return _named([*prompt, *ids], ["prompt"] * len(prompt) + content, tokenizer)


def of_batch(batch: Batch, example: Example, layout: str, tokenizer: Tokenizer) -> list[Token]:
    """The columns that a network reads of the only row of a batch, which a family's collator has made of the example.

    Columns that hold no special token are the prompt's, as many as it has, and then the target's or the text's.
    """
    ids: list[int] = batch["input_ids"][0].tolist()
    mask = Specials.of(tokenizer).mask
    prompt = [int(i) for i in example.get("prompt_ids", ())]  # type: ignore[attr-defined]
    after = {"lm": "text", "seq2seq": "target", "infill": "given"}[layout]
    found, content = [], 0
    for token in ids:
        first = layout != "infill" and content < len(prompt)
        found.append("hole" if token == mask else "prompt" if first else after)
        content += token == mask or token not in tokenizer.all_special_ids
    return _named(ids, found, tokenizer)


def _named(ids: Sequence[int], roles: Iterable[str], tokenizer: Tokenizer) -> list[Token]:
    """Special tokens but the mask have their own names as roles, whatever stands around them."""
    specials: dict[int, Any] = {value: name for name, value in vars(Specials.of(tokenizer)).items() if name != "mask"}
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    return [Token(token, i, specials.get(i, role)) for token, i, role in zip(tokens, ids, roles, strict=True)]
