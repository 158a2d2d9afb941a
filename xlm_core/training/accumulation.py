"""How a global batch is divided over ranks and micro-batches."""

from __future__ import annotations

from xlm_core.config import TrainerConfig
from xlm_core.errors import ConfigError


def accumulation(cfg: TrainerConfig) -> int:
    """Micro-batches of one rank in one optimiser step.

    Raises:
        ConfigError: the global batch does not split evenly.
    """
    world = cfg.devices * cfg.nodes
    share, rest = divmod(cfg.batch_size, world)
    if rest:
        raise ConfigError(
            f"trainer.batch_size={cfg.batch_size} does not split over {world} ranks", f"Use {share * world} or more."
        )
    steps = -(-share // cfg.micro_batch_size)
    if share % steps:
        raise ConfigError(
            f"{share} rows of a rank do not split into equal micro-batches of at most {cfg.micro_batch_size}",
            "Choose trainer.micro_batch_size so that it divides them.",
        )
    return steps
