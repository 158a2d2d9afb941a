"""How probable a causal language model finds the texts, always beside how varied they are: repeating is cheap to predict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from xlm_core.errors import ConfigError
from xlm_core.evaluation.evaluators import Row
from xlm_core.evaluation.statistics import Estimate, RatioMeter, mean
from xlm_core.protocols import Ratio


class GenerativePerplexity:
    """The texts as a judge reads them: its tokens, without any special token of its own. The first token is given, not scored.

    Metrics, each with the number of texts of at least two tokens:

    * `generative_perplexity`: exp(sum of NLL / sum of scored tokens), of the corpus.
    * `generative_perplexity_mean`: the mean of each text's exp(mean NLL), which is another number.
    * `entropy`: of a text's tokens, in nats; `distinct_1` .. `distinct_3`: its different n-grams over all its n-grams.
    * `judged`: the share of texts that were long enough.

    Args:
        judge: a causal language model, as a Hub name or a local folder. Only safetensors are read and no code of it is run.
        revision: of a Hub name.
        max_length: most tokens of a text that are read.
        batch_tokens: at most so many tokens, padding included, in one forward pass.
        device: auto takes a GPU where there is one.
    """

    def __init__(
        self,
        judge: str = "gpt2-large",
        revision: str | None = None,
        max_length: int = 1024,
        batch_tokens: int = 4096,
        device: str = "auto",
    ) -> None:
        self.judge, self.revision = judge, revision
        self.max_length, self.batch_tokens = max_length, batch_tokens
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """`judge_nll` in nats, summed over the scored tokens, or None; `judge_tokens`, how many; entropy and distinct-n."""
        model, tokenizer = self._load()
        ids = [tokenizer(row["text"], add_special_tokens=False)["input_ids"][: self.max_length] for row in rows]
        found: list[dict[str, Any]] = [
            {"judge_nll": None, "judge_tokens": max(0, len(tokens) - 1), **_variety(tokens)} for tokens in ids
        ]
        for places in self._batches([len(tokens) for tokens in ids]):
            for place, nll in zip(places, self._nll(model, [ids[place] for place in places]), strict=True):
                found[place]["judge_nll"] = nll
        return found

    def summarise(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        judged = [row for row in rows if row["judge_nll"] is not None]
        share = mean([float(row["judge_nll"] is not None) for row in rows])
        metrics = {} if share is None else {"judged": share}
        if not judged:
            return metrics
        meter = RatioMeter()
        nll, tokens = (torch.tensor([row[key] for row in judged], dtype=torch.float64) for key in ("judge_nll", "judge_tokens"))
        meter.update(Ratio(nll, tokens))
        corpus = meter.estimate()
        assert corpus is not None
        metrics["generative_perplexity"] = corpus.exp()
        columns = {"generative_perplexity_mean": (nll / tokens).exp().tolist()}
        columns |= {name: [row[name] for row in judged] for name in ("entropy", "distinct_1", "distinct_2", "distinct_3")}
        return metrics | {name: known for name, values in columns.items() if (known := mean(values)) is not None}

    def _load(self) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.judge, revision=self.revision, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                self.judge, revision=self.revision, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            hint = f"data.evaluators.generative_perplexity.judge is a Hub name or a local folder. {error}".splitlines()[0]
            raise ConfigError(f"the judge {self.judge!r} cannot be loaded", hint) from error
        limit = getattr(model.config, "max_position_embeddings", None)
        self.max_length = min(self.max_length, limit or self.max_length)
        return model.to(self.device).eval(), tokenizer

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of texts of similar length, the longest first, so that a batch that does not fit fails at once."""
        batch: list[int] = []
        for place in sorted((i for i, length in enumerate(lengths) if length > 1), key=lambda i: -lengths[i]):
            if batch and (len(batch) + 1) * lengths[batch[0]] > self.batch_tokens:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    @torch.inference_mode()
    def _nll(self, model: Any, ids: Sequence[Sequence[int]]) -> list[float]:
        """Of each text, summed over its tokens but the first. Padding is on the right, where a causal model never looks."""
        width = max(map(len, ids))
        padded = torch.tensor([[*tokens, *[0] * (width - len(tokens))] for tokens in ids], device=self.device)
        lengths = torch.tensor([len(tokens) for tokens in ids], device=self.device)
        real = torch.arange(width, device=self.device) < lengths[:, None]
        logits = model(input_ids=padded, attention_mask=real.long(), use_cache=False).logits[:, :-1]
        nll = F.cross_entropy(logits.float().transpose(1, 2), padded[:, 1:], reduction="none")
        sums: list[float] = nll.double().masked_fill(~real[:, 1:], 0).sum(-1).tolist()
        return sums


evaluator = GenerativePerplexity


def _variety(tokens: Sequence[int]) -> dict[str, float | None]:
    """Unigram entropy in nats, and the share of n-grams that differ; None for a text that is too short to have any."""
    total = len(tokens)
    entropy = -sum(c / total * math.log(c / total) for c in Counter(tokens).values()) if total else None
    grams = {n: list(zip(*(tokens[i:] for i in range(n)), strict=False)) for n in (1, 2, 3)}
    distinct = {f"distinct_{n}": len(set(found)) / len(found) if found else None for n, found in grams.items()}
    return {"entropy": entropy, **distinct}
