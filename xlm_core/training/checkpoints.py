"""The checkpoint files of a run: which there are, and the weights in them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import torch

from xlm_core.errors import CheckpointError
from xlm_core.protocols import Loss, Model, Predictor

BEST = "best.ckpt"


def step_of(path: Path) -> int:
    return int(re.sub(r"\D", "", path.stem))


def periodic(folder: Path) -> list[Path]:
    """The checkpoints of a run in the order of their steps, without the best."""
    return sorted(folder.glob("step_*.ckpt"))


def newest(folder: Path) -> Path:
    """The last whole checkpoint of a run.

    Raises:
        CheckpointError: there is none.
    """
    whole = [path for path in periodic(folder) if zipfile.is_zipfile(path)]
    if not whole:
        raise CheckpointError(f"{folder} holds no checkpoint", "The run ended before its first one; start it again.")
    return whole[-1]


def locate(folder: Path, which: str) -> Path:
    """A checkpoint file: `best` (the newest where there is no best), `last`, or a path.

    Raises:
        CheckpointError: it does not exist.
    """
    if which == "last" or (which == "best" and not (folder / BEST).exists()):
        return newest(folder)
    path = folder / BEST if which == "best" else Path(which)
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}", "Use best, last or the path of a .ckpt file.")
    return path


def load_weights(path: Path, *, model: Model, loss: Loss, predictor: Predictor) -> int:
    """Load the weights for evaluation, averaged ones where the run kept an average. Returns the step that they are from.

    Raises:
        CheckpointError: unreadable, or made by another model.
    """
    held = torch.nn.Module()  # as the harness holds them, whose weights were saved
    held.model, held.loss, held.predictor = model, loss, predictor  # type: ignore[assignment]
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        held.load_state_dict(content["state_dict"])
    except Exception as error:
        raise CheckpointError(f"{path} does not fit this model: {error}", "Was it trained with this config?") from error
    return int(content["global_step"])
