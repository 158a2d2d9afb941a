"""The network: every real column sees every other one of its document, and nothing else."""

from __future__ import annotations

import pytest
import torch
from xlm_family_mlm.config import ModelConfig
from xlm_family_mlm.model import MlmModel

COLUMNS = pytest.mark.parametrize("columns", [9, 80], ids=["plain kernel", "fused kernel"])


def _ids(rows, columns, seed=0):
    return torch.randint(7, 13, (rows, columns), generator=torch.Generator().manual_seed(seed))


@COLUMNS
@torch.no_grad()
def test_a_token_changes_the_logits_of_all_columns(network, columns):
    ids = _ids(1, columns)
    logits = network(ids)
    for column in (0, 4, columns - 1):
        changed = ids.clone()
        changed[0, column] = 7 + (ids[0, column] - 6) % 6
        assert ((network(changed) - logits).abs().amax(-1) > 1e-7).all()


@COLUMNS
@torch.no_grad()
def test_padding_is_never_seen(network, columns):
    """However little there is: one padded column in one row is enough for the mask to be needed."""
    for padding in (1, 7):
        alone = network(_ids(1, columns))[0]
        short = torch.cat([_ids(1, columns), torch.zeros(1, padding, dtype=torch.long)], 1)
        both = torch.cat([_ids(3, columns + padding, seed=1), short])
        mask = both != 0
        torch.testing.assert_close(network(both, attention_mask=mask)[3, :columns], alone)
        assert (network(both)[3, :columns] - alone).abs().max() > 1e-3


@torch.no_grad()
def test_documents_of_a_packed_row_do_not_see_each_other(network, packed):
    documents = [[7, 8, 9, 10], [], [11, 11]]
    row = packed([documents, [[9]]])
    together = network(row["input_ids"], row["attention_mask"], row["segment_ids"], row["positions"])
    begin = 0
    for document in documents:
        part = slice(begin, begin + len(document) + 1)
        torch.testing.assert_close(together[:1, part], network(row["input_ids"][:1, part]))
        begin = part.stop
    torch.testing.assert_close(together[1:, :2], network(row["input_ids"][1:, :2]))
    assert together.isfinite().all()


def test_no_gradient_flows_between_documents_or_from_padding(network, packed):
    kept = []
    network.embedding.register_forward_hook(lambda module, args, output: kept.append(output) or output.retain_grad())
    row = packed([[[7, 8], [9, 10, 11]], [[8]]])
    for column, reached in ((1, [1, 1, 1, 0, 0, 0, 0]), (4, [0, 0, 0, 1, 1, 1, 1])):
        logits = network(row["input_ids"], row["attention_mask"], row["segment_ids"], row["positions"])
        logits[0, column].square().sum().backward()
        assert (kept[-1].grad.abs().amax(-1)[0] > 0).int().tolist() == reached
    logits = network(row["input_ids"], row["attention_mask"], row["segment_ids"], row["positions"])
    logits[1, :2].square().sum().backward()
    assert (kept[-1].grad[1, 2:] == 0).all()


def test_sizes_are_those_of_the_config(tokenizer, specials):
    model = MlmModel(ModelConfig(dim=32, layers=3, heads=2, hidden=48), len(tokenizer), specials.pad)
    assert isinstance(model.final_norm, torch.nn.LayerNorm)
    assert model(torch.tensor([[7, 8]])).shape == (1, 2, len(tokenizer))
    assert len(model.blocks) == 3
    assert model.blocks[0].mlp[0].weight.shape == (48, 32)
