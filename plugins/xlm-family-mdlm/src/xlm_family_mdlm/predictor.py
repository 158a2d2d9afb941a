"""Decoding: canvases with masked columns are filled, and where asked for the text goes on in further windows."""

from __future__ import annotations

import itertools

import torch

from xlm_core.canvas import Specials
from xlm_core.errors import ConfigError
from xlm_core.noise.schedules import schedule
from xlm_core.protocols import Prediction, Tokenizer
from xlm_core.sampling.confidence import ORDERS
from xlm_core.sampling.random import RowRandom
from xlm_core.trace import Recorder
from xlm_family_mdlm.collator import MdlmBatch
from xlm_family_mdlm.config import PredictorConfig
from xlm_family_mdlm.denoiser import Denoiser, Words
from xlm_family_mdlm.model import MdlmModel
from xlm_family_mdlm.remasking import check, remasking, steps
from xlm_family_mdlm.unmasking import ancestral, first_hitting, surest
from xlm_family_mdlm.window import Answers, Window

STREAM = 2
"""The random numbers of the first window; the next ones have the next streams."""
SAMPLERS = ("first_hitting", "ancestral", "remask")


class MdlmPredictor:
    """Fills the free columns of each canvas; with `max_new_tokens`, goes on behind those that have not ended.

    An answer ends before its first EOS or padding. No other special token is ever written, visible tokens never change, and a
    row's choices depend on its draw number and the seed alone.
    """

    def __init__(self, cfg: PredictorConfig, model: MdlmModel, tokenizer: Tokenizer) -> None:
        _check(cfg)
        self.cfg = cfg
        self.model = model
        self.specials = Specials.of(tokenizer)
        self.schedule = schedule(cfg.schedule)
        self.plan = steps(cfg.remask, self.schedule, cfg.steps)
        forbidden = set(self.specials.never_generated) - {self.specials.pad}
        self.vocabulary = torch.tensor([token for token in range(len(tokenizer)) if token not in forbidden])

    @torch.inference_mode()
    def predict(self, batch: MdlmBatch, *, seed: int, trace: bool = False) -> Prediction:
        """See `xlm_core.protocols.Predictor`."""
        most = self.cfg.max_new_tokens or 0
        window = Window.first(batch)
        answers = Answers(window, most, self.specials)
        recorder = Recorder() if trace else None
        denoiser = Denoiser(
            self.model, self.specials, self._words(batch), self.cfg.token, torch.zeros_like(batch["draw"]), recorder
        )
        for stream in itertools.count(STREAM):
            self._fill(window, denoiser, RowRandom(seed, batch["draw"], stream))
            answers.write(window)
            if not most or not window.slide(self.cfg.stride, most, self.specials):
                break
        return Prediction(answers.ids(), denoiser.nfe, answers.traces(recorder) if recorder else None)

    def _fill(self, window: Window, denoiser: Denoiser, random: RowRandom) -> None:
        cfg, greedy = self.cfg, self.cfg.last_step == "greedy"
        if cfg.sampler == "first_hitting" and cfg.order != "random":
            surest(window, denoiser, random, self.schedule, cfg.order)
        elif cfg.sampler == "first_hitting":
            first_hitting(window, denoiser, random, self.schedule)
        elif cfg.sampler == "ancestral":
            ancestral(window, denoiser, random, self.schedule, cfg.steps, greedy=greedy)
        else:
            remasking(window, denoiser, random, self.plan, confidence=cfg.remask.confidence, greedy=greedy)

    def _words(self, batch: MdlmBatch) -> Words:
        ids = self.vocabulary.to(batch["input_ids"].device)
        return Words(ids, self.model.head.weight[ids], (ids == self.specials.eos) | (ids == self.specials.pad))


def _check(cfg: PredictorConfig) -> None:
    for name, known in (("sampler", SAMPLERS), ("order", ORDERS), ("last_step", ("sample", "greedy"))):
        if getattr(cfg, name) not in known:
            raise ConfigError(f"predictor.{name}={getattr(cfg, name)!r} is unknown", f"One of {', '.join(known)}.")
    if cfg.order != "random" and cfg.sampler != "first_hitting":
        hint = "Set predictor.sampler=first_hitting, or predictor.order=random."
        raise ConfigError(f"predictor.order={cfg.order} is not for the sampler {cfg.sampler}", hint)
    for name in ("steps", "max_new_tokens", "stride"):
        value = getattr(cfg, name)
        if value is not None and value < 1:
            raise ConfigError(f"predictor.{name}={value} is too small", "Make it at least 1.")
    check(cfg.remask)
