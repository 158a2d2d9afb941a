"""Strings that end an answer."""

from __future__ import annotations

from collections.abc import Sequence

from xlm_core.protocols import Tokenizer


class StopStrings:
    """Finds the first of some strings in the text of tokens, wherever the tokens are divided.

    Args:
        strings: none of them empty.
    """

    def __init__(self, strings: Sequence[str], tokenizer: Tokenizer) -> None:
        self.strings = tuple(strings)
        self.tokenizer = tokenizer

    def cut(self, ids: Sequence[int]) -> int | None:
        """How many tokens are whole in front of the first string; None where there is no string."""
        text = self._text(ids)
        places = [place for string in self.strings if (place := text.find(string)) >= 0]
        if not places:
            return None
        return max(count for count in range(len(ids)) if len(self._text(ids[:count])) <= min(places))

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
