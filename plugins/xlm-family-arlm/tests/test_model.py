"""The network: no column sees what it must not, and it computes what another library's network computes."""

from __future__ import annotations

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from xlm_family_arlm.config import LossConfig, ModelConfig, PredictorConfig
from xlm_family_arlm.loss import ArlmLoss
from xlm_family_arlm.model import ArlmModel
from xlm_family_arlm.predictor import ArlmPredictor

from xlm_core.canvas import positions
from xlm_core.config import SamplingConfig

TWIN = {"rtol": 1e-5, "atol": 1e-5}
"""Both compute rotation angles in float32."""


def _ids(rows, columns, seed=0):
    return torch.randint(7, 13, (rows, columns), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("columns", [9, 80], ids=["plain kernel", "fused kernel"])
def test_a_token_changes_no_logits_before_it_and_all_from_it_on(network, columns):
    ids = _ids(1, columns)
    logits = network(ids)
    for column in (0, 4, columns - 1):
        changed = ids.clone()
        changed[0, column] = 7 + (ids[0, column] - 6) % 6
        difference = (network(changed) - logits).abs().amax(-1)[0]
        assert (difference[:column] == 0).all()
        assert (difference[column:] > 1e-6).all()


def test_no_gradient_flows_from_a_column_to_the_tokens_after_it(network):
    kept = []
    network.embedding.register_forward_hook(lambda module, args, output: kept.append(output) or output.retain_grad())
    for column in range(6):
        network.zero_grad()
        network(_ids(2, 6))[:, column].square().sum().backward()
        reached = kept[-1].grad.abs().amax((0, 2))
        assert (reached[: column + 1] > 0).all()
        assert (reached[column + 1 :] == 0).all()


@torch.no_grad()
def test_logits_do_not_depend_on_padding_or_on_other_rows(network):
    alone = network(_ids(1, 5))[0]
    right = torch.cat([_ids(1, 5), torch.zeros(1, 4, dtype=torch.long)], 1)
    torch.testing.assert_close(network(torch.cat([_ids(1, 9, seed=1), right]))[1, :5], alone)
    left = torch.cat([torch.zeros(1, 4, dtype=torch.long), _ids(1, 5)], 1)
    both = torch.cat([left, _ids(1, 9, seed=1)])
    mask = both != 0
    torch.testing.assert_close(network(both, attention_mask=mask, positions=positions(mask))[0, 4:], alone)


@torch.no_grad()
def test_documents_of_a_packed_row_do_not_see_each_other(network, packed, lm):
    documents = [[7, 8, 9, 10], [], [11, 11]]
    row, each = packed([documents]), lm(documents)
    together = network(row["input_ids"], segment_ids=row["segment_ids"], positions=row["positions"])[0]
    apart = network(each["input_ids"])[each["attention_mask"]]
    torch.testing.assert_close(together, apart)
    blind = network(row["input_ids"], positions=row["positions"])[0]
    assert (blind - apart).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("split", [3, 6])
def test_columns_in_pieces_through_the_cache_equal_all_columns_at_once(network, split):
    ids = torch.cat([torch.zeros(2, 2, dtype=torch.long), _ids(2, 6)], 1)
    ids[1, :3] = _ids(1, 3, seed=2)
    mask = ids != 0
    place = positions(mask)
    whole = network.hidden(ids, attention_mask=mask, positions=place)
    caches = network.new_caches(2, 8)
    pieces = [
        network.hidden(ids[:, a:b], attention_mask=mask[:, :b], positions=place[:, a:b], caches=caches)
        for a, b in ((0, split), (split, split + 1), (split + 1, 8))
    ]
    torch.testing.assert_close(torch.cat(pieces, 1)[mask], whole[mask])


def test_weights_are_drawn_for_each_layer_on_its_own(tokenizer, specials):
    model = ArlmModel(ModelConfig(dim=32, layers=2, heads=2), len(tokenizer), specials.pad)
    first, second = (dict(block.named_parameters()) for block in model.blocks)
    assert all((first[name] != second[name]).any() for name in first if first[name].ndim == 2)


def neox_twin(network, tokenizer, specials):
    """The same network in Hugging Face's GPT-NeoX, whose attention biases are set to zero."""
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        hidden_act="relu",
        use_parallel_residual=False,
        rotary_pct=0.5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        pad_token_id=specials.pad,
        bos_token_id=specials.bos,
        eos_token_id=specials.eos,
    )
    twin = GPTNeoXForCausalLM(config).double().eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        twin.gpt_neox.embed_in.weight.copy_(network.embedding.weight)
        twin.get_output_embeddings().weight.copy_(network.head.weight)
        _copy(twin.gpt_neox.final_layer_norm, network.final_norm)
        for theirs, ours in zip(twin.gpt_neox.layers, network.blocks, strict=True):
            _copy(theirs.input_layernorm, ours.attention_norm)
            _copy(theirs.post_attention_layernorm, ours.mlp_norm)
            _copy(theirs.mlp.dense_h_to_4h, ours.mlp[0])
            _copy(theirs.mlp.dense_4h_to_h, ours.mlp[2])
            theirs.attention.dense.weight.copy_(ours.attention.out.weight)
            # Ours holds all queries, then all keys, then all values; theirs holds those of one head together.
            by_head = ours.attention.qkv.weight.view(3, 2, 16, 32).transpose(0, 1)
            theirs.attention.query_key_value.weight.copy_(by_head.flatten(0, 2))
    return twin


def _copy(theirs, ours):
    theirs.weight.copy_(ours.weight)
    theirs.bias.copy_(ours.bias)


@pytest.fixture
def twin(network, tokenizer, specials):
    with torch.no_grad():
        network.places.weight.zero_()  # GPT-NeoX has rotary positions alone
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) / 4)
    return neox_twin(network, tokenizer, specials)


@torch.no_grad()
def test_logits_equal_those_of_gpt_neox(network, twin):
    ids = _ids(3, 70)
    torch.testing.assert_close(network(ids), twin(ids).logits, **TWIN)


def test_the_loss_and_its_gradient_equal_those_of_gpt_neox(network, twin, seq2seq):
    batch = seq2seq([([7, 8, 9], [10, 11]), ([7], [8, 8, 12]), ([], [9])])
    ours = ArlmLoss(LossConfig(), network)(batch, seed=0).loss
    # Their labels are the inputs, shifted inside: the whole row with -100 where nothing is predicted.
    whole = torch.cat([batch["input_ids"], torch.zeros(3, 1, dtype=torch.long)], 1)
    labels = torch.full_like(whole, -100)
    labels[:, 1:][batch["target_mask"]] = batch["target_ids"][batch["target_mask"]]
    theirs = twin(whole, labels=labels).loss.double()
    torch.testing.assert_close(ours, theirs, **TWIN)
    ours.backward(), theirs.backward()
    torch.testing.assert_close(network.head.weight.grad, twin.get_output_embeddings().weight.grad, **TWIN)
    mine, their = network.blocks[0].mlp[0].weight.grad, twin.gpt_neox.layers[0].mlp.dense_h_to_4h.weight.grad
    torch.testing.assert_close(mine, their, **TWIN)


def test_greedy_answers_equal_those_of_gpt_neox(network, twin, tokenizer, specials, seq2seq):
    pairs = [([7, 8, 9, 12], []), ([7], []), ([], []), ([10, 10], []), ([11, 9, 12, 8, 8], [])]
    batch = seq2seq(pairs, "predict")
    cfg = PredictorConfig(max_new_tokens=12, token=SamplingConfig(temperature=0.0))
    ours = ArlmPredictor(cfg, network, tokenizer).predict(batch, seed=0).ids
    theirs = twin.generate(
        batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=False,
        max_new_tokens=12,
        suppress_tokens=list(specials.never_generated),
    )[:, batch["input_ids"].shape[1] :]
    for mine, answer in zip(ours.tolist(), theirs.tolist(), strict=True):
        ended = answer.index(specials.eos) if specials.eos in answer else len(answer)
        assert [token for token in mine if token != specials.pad] == answer[:ended]
