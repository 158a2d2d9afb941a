"""How probable a causal language model finds the texts, always beside how varied they are: repeating is cheap to predict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from xlm_core.evaluation.evaluators import Row
from xlm_core.evaluation.evaluators.judges import Judge, Reader
from xlm_core.evaluation.statistics import Estimate, RatioMeter, mean
from xlm_core.protocols import Ratio

VARIETY = ("entropy", "distinct_1", "distinct_2", "distinct_3")


class GenerativePerplexity:
    """The texts as a judge reads them. The first token is given, not scored.

    Metrics, each with the number of texts of at least two tokens:

    * `generative_perplexity`: exp(sum of NLL / sum of scored tokens), of the corpus.
    * `generative_perplexity_mean`: the mean of each text's exp(mean NLL), which is another number.
    * `entropy`: of a text's tokens, in nats; `distinct_1` .. `distinct_3`: its different n-grams over all its n-grams.
    * `judged`: the share of texts that were long enough.

    Arguments are those of `xlm_core.evaluation.evaluators.judges.Judge`.
    """

    def __init__(
        self,
        judge: str = "gpt2-large",
        revision: str | None = None,
        max_length: int = 1024,
        batch_tokens: int = 4096,
        device: str = "auto",
    ) -> None:
        self.judge = Judge(judge, revision, max_length, batch_tokens, device)

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """`judge_nll` in nats, summed over the scored tokens, or None; `judge_tokens`, how many; entropy and distinct-n."""
        reader = self.judge.load()
        ids = reader.ids([row["text"] for row in rows])
        nll = _nll(reader, ids)
        return [
            {"judge_nll": nll.get(place), "judge_tokens": max(0, len(tokens) - 1), **variety(tokens)}
            for place, tokens in enumerate(ids)
        ]

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
        columns |= {name: [row[name] for row in judged] for name in VARIETY}
        return metrics | {name: known for name, values in columns.items() if (known := mean(values)) is not None}


evaluator = GenerativePerplexity


def variety(tokens: Sequence[int]) -> dict[str, float | None]:
    """Unigram entropy in nats, and the share of n-grams that differ; None for a text that is too short to have any."""
    total = len(tokens)
    entropy = -sum(c / total * math.log(c / total) for c in Counter(tokens).values()) if total else None
    grams = {n: list(zip(*(tokens[i:] for i in range(n)), strict=False)) for n in (1, 2, 3)}
    distinct = {f"distinct_{n}": len(set(found)) / len(found) if found else None for n, found in grams.items()}
    return {"entropy": entropy, **distinct}


@torch.inference_mode()
def _nll(reader: Reader, ids: Sequence[Sequence[int]]) -> dict[int, float]:
    """Of each text of at least two tokens, by its place, summed over its tokens but the first."""
    found: dict[int, float] = {}
    for places, tokens_BL, real_BL in reader.batches([tokens if len(tokens) > 1 else [] for tokens in ids]):
        logits = reader.model(input_ids=tokens_BL, attention_mask=real_BL.long(), use_cache=False).logits[:, :-1]
        nll = F.cross_entropy(logits.float().transpose(1, 2), tokens_BL[:, 1:], reduction="none")
        found |= zip(places, nll.double().masked_fill(~real_BL[:, 1:], 0).sum(-1).tolist(), strict=True)
    return found
