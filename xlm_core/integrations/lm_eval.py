"""Runs as models of EleutherAI's lm-evaluation-harness.

    python -m xlm_core.integrations.lm_eval run --model xlm --model_args run=latest,checkpoint=best --tasks lambada_openai

is the harness's own command with `xlm` among its models; `lm_eval.simple_evaluate(model=XlmLM(run="latest"), ...)` does too.
Log-likelihoods are exact or a bound, as the family declares, in nats and summed over tokens; nothing is put behind a text of
the lm layout, so the end of a text is no part of them. What does not fit is an error: neither cut nor scored as 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from xlm_core import decoding
from xlm_core.data.tokenizers import encode
from xlm_core.errors import ConfigError, DataError, FamilyError
from xlm_core.protocols import Example, LikelihoodScorer, Scores

logger = logging.getLogger(__name__)

Ids = list[int]


@register_model("xlm")
class XlmLM(LM):
    """A run with a checkpoint.

    Args:
        run: a run folder, or latest.
        checkpoint: best, last, or a path.
        batch_size: rows at once; the run's own where it is not a number.
        max_length: most tokens of context and continuation together; what the run was trained on when not given.
        device: overrides the run's accelerator.
        seed: of the noise of a bound and of decoding.
        overrides: Hydra overrides on the run's config, separated by blanks.

    Raises:
        ConfigError: the run fills holes and continues nothing.
    """

    def __init__(
        self,
        run: str = "latest",
        checkpoint: str = "best",
        batch_size: int | str | None = None,
        max_length: int | None = None,
        device: str | None = None,
        seed: int = 0,
        overrides: str = "",
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        del max_batch_size
        given = [*overrides.split(), *([f"trainer.accelerator={device.partition(':')[0]}"] if device else [])]
        self.config, self.family, self.parts = _restored(run, checkpoint, given)
        data, trainer = self.config.data, self.config.trainer
        if data.layout == "infill":
            hint = "Take a run on lm or seq2seq data."
            raise ConfigError(f"{data.name} is of the infill layout, which continues no text", hint)
        self.seed = int(seed)
        self.max_length = int(max_length or data.length + data.prompt_length)
        own = trainer.eval_batch_size or trainer.micro_batch_size
        self.batch_size = int(str(batch_size)) if str(batch_size).isdigit() else own
        if self.family.info.likelihood == "bound":
            logger.warning(
                "log-likelihoods of %s are estimates of a lower bound; loss.eval_samples says of how many noised copies",
                self.family.record.name,
            )

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Of each (context, continuation): log p(continuation | context), and whether greedy decoding gives it, which is False
        where the family has no such decoding."""
        pairs = [self._pair(*request.args) for request in requests]
        found = self._scored(pairs)
        for request, answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return found

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Of each text, each token once. A long one is read in windows of `max_length` tokens with as much context as fits."""
        totals = []
        for request in requests:
            (text,) = request.args
            (ids,) = encode(self.parts.tokenizer, [text])
            if not ids:
                raise DataError(f"a text has no tokens: {text!r}", "Leave empty texts out of the task.")
            totals.append(sum(total for total, _ in self._scored(list(windows(ids, self.max_length)))))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, totals[-1])
        return totals

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Continuations, up to the first of the `until` strings, decoded as the run's predictor is configured."""
        contexts = encode(self.parts.tokenizer, [request.args[0] for request in requests])
        for number, ids in enumerate(contexts):
            self._check(number, len(ids), self.config.data.prompt_length if self._answers else self.max_length - 1)
        examples = [cast(Example, {"draw": n, "prompt_ids": ids, "input_ids": []}) for n, ids in enumerate(contexts)]
        collate, tokenizer, texts = self.parts.collate("predict"), self.parts.tokenizer, []
        with decoding.inference(self.config, self.parts.model) as device:
            for chunk in self._chunks(examples):
                made = decoding.decode(
                    self.parts.predictor, tokenizer, collate(chunk), chunk, device, seed=self.seed, trace=False
                )
                texts += [sample.ids for sample in made]
        return [self._until(ids, request.args[1]) for ids, request in zip(texts, requests, strict=True)]

    @property
    def tokenizer_name(self) -> str:
        """What the caches of the harness are told apart by."""
        return str(self.parts.tokenizer.name_or_path)

    @property
    def _answers(self) -> bool:
        return bool(self.config.data.layout == "seq2seq")

    def _pair(self, context: str, continuation: str) -> tuple[Ids, Ids]:
        """Ids of both. In the lm layout they are those of one text, where white space belongs to what it stands before."""
        tokenizer = self.parts.tokenizer
        if self._answers:
            given, scored = encode(tokenizer, [context, continuation])
        else:
            before, whole = encode(tokenizer, [context.rstrip(), context + continuation])
            given, scored = whole[: len(before)], whole[len(before) :]
        if not scored:
            raise DataError(f"the continuation {continuation!r} has no tokens", "Leave such items out of the task.")
        return given, scored

    def _scored(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[tuple[float, bool]]:
        for number, (given, scored) in enumerate(pairs):
            if self._answers:
                self._check(number, len(given), self.config.data.prompt_length)
                self._check(number, len(scored), self.config.data.length)
            else:
                self._check(number, len(given) + len(scored), self.max_length)
        examples = [
            cast(Example, {"draw": n, "prompt_ids": given, "input_ids": scored}) for n, (given, scored) in enumerate(pairs)
        ]
        examples.sort(key=lambda example: -len(example["prompt_ids"]) - len(example["input_ids"]))
        found: dict[int, tuple[float, bool]] = {}
        collate = self.parts.collate("evaluate")
        with decoding.inference(self.config, self.parts.model) as device:
            for chunk in self._chunks(examples):
                scores = self._scores(decoding.moved(collate(chunk), device))
                greedy = [False] * len(chunk) if scores.greedy is None else scores.greedy.tolist()
                for example, total, best in zip(chunk, scores.log_likelihood.tolist(), greedy, strict=True):
                    found[example["draw"]] = (total, best)
        return [found[number] for number in range(len(pairs))]

    def _scores(self, batch: Any) -> Scores:
        loss, info = self.parts.loss, self.family.info
        if isinstance(loss, LikelihoodScorer):
            return loss.log_likelihood(batch, seed=self.seed)
        if info.likelihood == "none" or not self._answers:
            what = "has no likelihood" if info.likelihood == "none" else "scores no continuations of the lm layout"
            hint = "Take tasks that generate, or another family: arlm is exact, mdlm a bound."
            raise FamilyError(f"the family {self.family.record.name} {what}", hint)
        return Scores(-loss(batch, seed=self.seed).terms["nll"].total.double())

    def _check(self, number: int, length: int, limit: int) -> None:
        if length > limit:
            hint = "It is not cut, nor scored as 0. Leave such items out, or take a run with longer rows."
            raise DataError(f"item {number} has {length} tokens, more than the {limit} of the run", hint)

    def _chunks(self, examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
        for start in range(0, len(examples), self.batch_size):
            yield examples[start : start + self.batch_size]

    def _until(self, ids: Ids, arguments: dict[str, Any]) -> str:
        stops = arguments.get("until") or []
        text = str(self.parts.tokenizer.decode(ids[: arguments.get("max_gen_toks")], skip_special_tokens=True))
        for stop in [stops] if isinstance(stops, str) else stops:
            text = text.split(stop)[0] if stop else text
        return text


def windows(ids: Sequence[int], width: int) -> Iterator[tuple[Ids, Ids]]:
    """(context, tokens to score) of at most `width` tokens together: each token is scored once, with a token before it where
    there is one, and the last window is as full as the others."""
    yield [], list(ids[:width])
    step = max(width - 1, 1)
    for start in range(width, len(ids), step):
        stop = min(start + step, len(ids))
        yield list(ids[max(stop - width, 0) : start]), list(ids[start:stop])


def _restored(name: str, checkpoint: str, overrides: Sequence[str]) -> Any:
    from xlm_core import run as library

    return library.restore(library.find(name), checkpoint, overrides)


def main() -> None:
    """The harness's command, which finds this model by its name."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
