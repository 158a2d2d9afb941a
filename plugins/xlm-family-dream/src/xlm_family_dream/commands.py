"""`xlm run dream COMMAND`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from xlm_core.protocols import Prediction
    from xlm_core.run import Sample

PAD = -1
"""No id of any tokenizer."""
EXACT = ("predictor.cache=none", "predictor.threshold=null", "predictor.report_agreement=false")

commands = typer.Typer(help="What the family can do beside core's commands.")


@commands.command("agreement")
def agreement(
    run: Annotated[str, typer.Argument(help="A run folder, or latest.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Of the approximate decoder: predictor=dream_fast when there are none.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Rows of the test split; texts from nothing in the lm layout.")] = 64,
    seed: Annotated[int, typer.Option("--seed", help="Of both decoders.")] = 0,
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="best, last, or the path of a checkpoint.")] = "best",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How much of what an approximate decoder writes is what the exact one writes, and what each of them costs."""
    import json

    from xlm_core import run as runs
    from xlm_family_dream import agreement as comparing

    folder = runs.find(run, "dream")
    chosen = overrides or ["predictor=dream_fast"]
    one, other = (
        _prediction(runs.generate(folder, prompts=None, n=n, seed=seed, checkpoint=checkpoint, overrides=options))
        for options in (chosen, [*chosen, *EXACT])
    )
    found = comparing.agreement(one, other, PAD)
    print(json.dumps(vars(found)) if as_json else found)


def _prediction(samples: Iterable[Sample]) -> Prediction:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from xlm_core.protocols import Prediction

    rows = list(samples)
    ids = pad_sequence([torch.tensor(row.ids, dtype=torch.long) for row in rows], batch_first=True, padding_value=PAD)
    return Prediction(ids, torch.tensor([row.nfe for row in rows]))
