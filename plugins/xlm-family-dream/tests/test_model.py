"""The network: every real column sees every other one of its document, and nothing else."""

from __future__ import annotations

import pytest
import torch
from xlm_family_dream.config import ModelConfig
from xlm_family_dream.model import DreamModel

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
    for padding in (1, 7):
        alone = network(_ids(1, columns))[0]
        short = torch.cat([_ids(1, columns), torch.zeros(1, padding, dtype=torch.long)], 1)
        both = torch.cat([_ids(3, columns + padding, seed=1), short])
        mask = both != 0
        torch.testing.assert_close(network(both, attention_mask=mask)[3, :columns], alone)
        assert (network(both)[3, :columns] - alone).abs().max() > 1e-3


@COLUMNS
def test_padded_columns_have_finite_states_and_gradients(network, columns):
    """Whatever the kernel does for a query whose own column is hidden from it."""
    ids = _ids(2, columns)
    mask = torch.arange(columns) < torch.tensor([[columns], [1]])
    logits = network(ids, attention_mask=mask)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@torch.no_grad()
def test_documents_of_a_packed_row_do_not_see_each_other(network, packed):
    documents = [[7, 8, 9, 10], [], [11, 11]]
    row = packed([documents, [[9]]], bos=False)
    together = network(row["input_ids"], row["attention_mask"], row["segment_ids"], row["positions"])
    begin = 0
    for document in documents:
        part = slice(begin, begin + len(document) + 1)
        torch.testing.assert_close(together[:1, part], network(row["input_ids"][:1, part]))
        begin = part.stop
    torch.testing.assert_close(together[1:, :2], network(row["input_ids"][1:, :2]))
    assert together.isfinite().all()


@torch.no_grad()
def test_causal_networks_see_the_left_only(network, tokenizer):
    cfg = ModelConfig(dim=32, layers=2, heads=4, kv_heads=2, hidden=48, causal=True)
    causal = DreamModel(cfg, len(tokenizer)).double()
    causal.load_state_dict(network.state_dict())
    ids = _ids(1, 9)
    changed = ids.clone()
    changed[0, 5] = 7 + (ids[0, 5] - 6) % 6
    apart = (causal(changed) - causal(ids)).abs().amax(-1)[0] > 1e-9
    assert apart.tolist() == [False] * 5 + [True] * 4


def test_a_tied_head_stays_tied(tokenizer):
    model = DreamModel(ModelConfig(dim=32, layers=1, heads=4, kv_heads=2, hidden=48, tie_head=True), len(tokenizer))
    assert model.head.weight is model.embedding.weight
    model.to(torch.float64)
    model.load_state_dict(model.state_dict())
    assert model.head.weight is model.embedding.weight
