"""LoRA (Hu et al., 2021, arXiv 2106.09685) on the network of any family, through peft: an extension that wraps one hook.

    PYTHONPATH=examples/lora xlm train -f ilm -d star_medium model=ilm_small \\
        'extensions.lora={_target_: xlm_lora.Lora, rank: 8, base: runs/ilm/star_easy/RUN}'

Every linear layer W of the network's blocks becomes W + (alpha / rank) B A, with A and B trained and everything else frozen. B
begins at zero, so the first loss is that of the base. The run's config names the extension, so `xlm eval` and `xlm generate`
put it around the family again, and its checkpoints hold the whole network, base and adapters.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from xlm_core.errors import CheckpointError, ConfigError
from xlm_core.hookspecs import hookimpl
from xlm_core.training import checkpoints


class Lora:
    """Wraps `xlm_model` of any family whose network has its repeated layers in `blocks`.

    Args:
        rank: columns of B.
        alpha: the update is scaled by alpha / rank.
        dropout: of what A reads, in training.
        base: a run of the same family and sizes, whose best weights are adapted; the initial ones when not given.
    """

    def __init__(self, rank: int = 8, alpha: int = 16, dropout: float = 0.0, base: str | None = None) -> None:
        if rank < 1:
            raise ConfigError(f"extensions.lora.rank={rank} is no rank", "Make it at least 1.")
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        self.base = None if base is None else Path(base)

    @hookimpl(wrapper=True)
    def xlm_model(self) -> Generator[None, nn.Module, nn.Module]:
        model = yield
        if self.base is not None:
            load(model, self.base)
        layers = [name for name, layer in model.named_modules() if name.startswith("blocks.") and isinstance(layer, nn.Linear)]
        if not layers:
            raise ConfigError(f"{type(model).__name__} has no linear layers in `blocks`", "This extension adapts only those.")
        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=layers)
        inject_adapter_in_model(config, model)  # in place: the network keeps its class, and all else is frozen
        return model


def load(model: nn.Module, run: Path) -> None:
    """Fill a network with the best weights of a run, averaged ones where the run kept an average.

    Raises:
        CheckpointError: there is no such run, or its network is another.
    """
    path = checkpoints.locate(run / "checkpoints", "best")
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    own = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is not of this network: {error}", "Take the base's family, model and data.") from error
