"""Checkpoint folders against transformers, which writes them and reads ours."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from xlm_family_dream.config import LossConfig, ModelConfig, PredictorConfig
from xlm_family_dream.loss import DreamLoss
from xlm_family_dream.predictor import DreamPredictor
from xlm_family_dream.weights import export, load

from xlm_core.errors import CheckpointError, ConfigError

IDS = torch.randint(0, 16, (3, 70), generator=torch.Generator().manual_seed(2))
KINDS = [
    {},
    {"tie_word_embeddings": True},
    {"shard": "5KB"},
    {"tie_word_embeddings": True, "shard": "5KB"},
    {"num_key_value_heads": 1, "theta": 1e6, "rms_norm_eps": 1e-6},
    {"num_key_value_heads": 4, "num_hidden_layers": 3, "intermediate_size": 40},
]


def _load(folder, tokenizer, **options):
    return load(ModelConfig(pretrained=str(folder), **options), tokenizer)


def _edit(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize("options", KINDS, ids=str)
@torch.no_grad()
def test_in_causal_mode_the_logits_are_those_of_qwen2(qwen, tokenizer, options):
    theirs, folder = qwen(**options)
    ours = _load(folder, tokenizer, causal=True)
    assert (len(list(folder.glob("*.safetensors"))) > 2) == ("shard" in options)
    assert (ours.head.weight is ours.embedding.weight) == theirs.config.tie_word_embeddings
    torch.testing.assert_close(ours(IDS), theirs(IDS).logits, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(ours(IDS[:, :9]), theirs(IDS[:, :9]).logits, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("columns", [9, 70], ids=["plain kernel", "fused kernel"])
@torch.no_grad()
def test_in_both_directions_they_are_those_of_qwen2_without_its_causal_mask(qwen, tokenizer, columns):
    theirs, folder = qwen()
    ours = _load(folder, tokenizer)
    valid = torch.arange(columns) < torch.tensor([[columns], [columns - 3], [columns - 1]])
    bias = torch.zeros(3, 1, columns, columns).masked_fill(~valid[:, None, None, :], torch.finfo(torch.float32).min)
    expected = theirs(IDS[:, :columns], attention_mask=bias).logits[valid]
    torch.testing.assert_close(ours(IDS[:, :columns], valid)[valid], expected, atol=2e-4, rtol=1e-4)
    assert (ours(IDS[:, :columns])[1, 0] - expected[columns]).abs().max() > 1e-3


@pytest.mark.parametrize("options", KINDS[:4], ids=str)
def test_loaded_decoded_tuned_saved_and_loaded_again(qwen, tokenizer, seq2seq, tmp_path, options):
    model = _load(qwen(**options)[1], tokenizer)
    batch = seq2seq([([7, 8], [9, 10]), ([9], [11])], draws=[3, 4], length=3)
    start = seq2seq([([7, 8], []), ([9], [])], "predict", length=3)
    before = model(batch["input_ids"]).detach()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        out = DreamLoss(LossConfig(), model)(batch, seed=0)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < losses[0] / 2
    assert (model.head.weight is model.embedding.weight) == options.get("tie_word_embeddings", False)
    export(model, tmp_path / "tuned", tokenizer, shard_bytes=6_000 if "shard" in options else 10**9)
    again = _load(tmp_path / "tuned", tokenizer)
    logits = model(batch["input_ids"])
    assert torch.equal(again(batch["input_ids"]), logits)
    assert (logits - before).abs().max() > 0.1
    answers = [DreamPredictor(PredictorConfig(), m, tokenizer).predict(start, seed=0).ids for m in (model, again)]
    assert torch.equal(*answers)
    assert (answers[0] < len(tokenizer)).all(), "rows of the embedding that no token has are never written"


@pytest.mark.parametrize("shard_bytes", [10**9, 6_000])
@torch.no_grad()
def test_transformers_reads_what_is_exported(qwen, tokenizer, tmp_path, shard_bytes):
    from transformers import AutoModelForCausalLM

    theirs, folder = qwen()
    ours = _load(folder, tokenizer, causal=True)
    export(ours, tmp_path, tokenizer, shard_bytes=shard_bytes)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert ("model.safetensors.index.json" in files) == (shard_bytes == 6_000)
    assert sum(name.endswith(".safetensors") for name in files) > 1 or shard_bytes == 10**9
    assert all("tmp" not in name for name in files)
    read = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(read(IDS).logits, theirs(IDS).logits, atol=1e-5, rtol=1e-5)
    both = _load(folder, tokenizer)
    export(both, tmp_path, tokenizer)  # one file in place of several: the index of those is gone
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "Dream"
    assert torch.equal(_load(tmp_path, tokenizer)(IDS), both(IDS))


def test_an_export_that_fails_leaves_what_was_there(qwen, tokenizer, tmp_path, monkeypatch):
    model = _load(qwen()[1], tokenizer)
    export(model, tmp_path, tokenizer)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with torch.no_grad():
        model.head.weight.zero_()

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("xlm_family_dream.folder._write_json", full)
    with pytest.raises(OSError, match="no space"):
        export(model, tmp_path, tokenizer)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_are_kept_in_the_dtype_that_is_asked_for(qwen, tokenizer):
    folder = qwen()[1]
    half = _load(folder, tokenizer, dtype="bfloat16")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    whole = _load(folder, tokenizer)(IDS)
    assert (half(IDS).float() - whole).abs().mean() < 0.05 * whole.abs().mean()


def test_weights_of_random_networks_are_drawn_one_by_one(tokenizer):
    from xlm_family_dream.model import DreamModel

    torch.manual_seed(0)
    model = DreamModel(ModelConfig(dim=64, layers=8, heads=4, kv_heads=2, hidden=96), len(tokenizer))
    first, second = model.blocks[0].attention.qkv.weight, model.blocks[1].attention.qkv.weight
    assert not torch.equal(first, second)
    assert first.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.blocks[3].mlp.down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)
    assert model.blocks[3].attention.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)


def test_tensors_that_do_not_fit_are_all_named_in_one_error(qwen, tokenizer, tmp_path):
    shutil.copytree(qwen()[1], tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("model.layers.1.self_attn.k_proj.bias")
    tensors.pop("model.norm.weight")
    tensors["model.layers.0.self_attn.q_norm.weight"] = torch.zeros(8)
    tensors["model.layers.0.self_attn.v_proj.weight"] = torch.zeros(32, 32)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        _load(tmp_path, tokenizer)
    for part in (
        "2 missing: model.layers.1.self_attn.k_proj.bias, model.norm.weight",
        "1 unexpected: model.layers.0.self_attn.q_norm.weight",
        "1 of another shape: model.layers.0.self_attn.v_proj.weight (32 x 32 instead of 16 x 32)",
    ):
        assert part in error.value.message
    assert "\n" not in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "llama"}, "is of a llama network"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rotary scaling of type yarn"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary scaling of type linear"),
        ({"use_sliding_window": True}, "sliding-window attention"),
        ({"hidden_act": "gelu"}, "the activation gelu"),
        ({"head_dim": 16}, "heads that do not make up its width"),
        ({"hidden_size": None}, "lacks a size"),
        ({"vocab_size": 12}, "has 12 token embeddings, and the tokenizer 13 tokens"),
        ({"mask_token_id": 9}, "the mask is token 9"),
        ({"num_key_value_heads": 4}, "of another shape"),
        ({"num_hidden_layers": 3}, "12 missing"),
        ({"tie_word_embeddings": False, "num_hidden_layers": 1}, "12 unexpected"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_network_is_not_is_refused(qwen, tokenizer, tmp_path, values, message):
    shutil.copytree(qwen()[1], tmp_path, dirs_exist_ok=True)
    _edit(tmp_path, **values)
    with pytest.raises(CheckpointError, match=message) as error:
        _load(tmp_path, tokenizer)
    assert error.value.hint


def test_older_folders_say_their_rotary_base_elsewhere(qwen, tokenizer, tmp_path):
    theirs, folder = qwen(theta=300.0)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    _edit(tmp_path, rope_parameters=None, rope_theta=300.0, model_type="Dream", mask_token_id=2)
    torch.testing.assert_close(_load(tmp_path, tokenizer, causal=True)(IDS), theirs(IDS).logits, atol=2e-4, rtol=1e-4)


def test_broken_folders_are_explained(qwen, tokenizer, tmp_path):
    def refused(message, change):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(qwen(shard="5KB")[1], folder)
        change(folder)
        with pytest.raises(CheckpointError, match=message) as error:
            _load(folder, tokenizer)
        assert error.value.hint

    index = "model.safetensors.index.json"
    shard = "model-00002-of-00008.safetensors"
    refused("config.json cannot be read", lambda folder: (folder / "config.json").unlink())
    refused("config.json cannot be read", lambda folder: (folder / "config.json").write_text("{"))
    refused("neither model.safetensors nor", lambda folder: (folder / index).unlink())
    refused("has no weight_map", lambda folder: (folder / index).write_text("{}"))
    refused("cannot be read", lambda folder: next(folder.glob("model-00002*")).unlink())
    refused("cannot be read", lambda folder: next(folder.glob("model-00002*")).write_bytes(b"half a file"))

    def outside(folder):
        content = json.loads((folder / index).read_text())
        content["weight_map"]["model.norm.weight"] = f"../0/{shard}"
        (folder / index).write_text(json.dumps(content))

    refused("is not in its folder", outside)

    def elsewhere(folder):
        content = json.loads((folder / index).read_text())
        content["weight_map"].pop("model.norm.weight")
        (folder / index).write_text(json.dumps(content))

    refused("1 missing: model.norm.weight", elsewhere)


def test_no_code_in_a_folder_is_run(qwen, tokenizer, tmp_path):
    """Not the modules that a config names, and no pickle."""
    shutil.copytree(qwen()[1], tmp_path, dirs_exist_ok=True)
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')"
    for name in ("modeling_dream.py", "configuration_dream.py", "__init__.py"):
        (tmp_path / name).write_text(trap)
    names = {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"}
    _edit(tmp_path, model_type="Dream", auto_map=names)
    _load(tmp_path, tokenizer)
    assert not (tmp_path / "sprung").exists()

    class Trap:
        def __reduce__(self):
            return eval, (trap,)

    torch.save({"model.norm.weight": Trap()}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="neither model"):
        _load(tmp_path, tokenizer)
    assert not (tmp_path / "sprung").exists()


def test_a_hub_name_fetches_numbers_and_names_only(qwen, tokenizer, monkeypatch):
    theirs, folder = qwen()
    asked = []

    def fetch(name, **options):
        asked.append((name, options))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    model = _load("org/name", tokenizer, revision="v2", causal=True)
    assert asked == [("org/name", {"revision": "v2", "allow_patterns": ["*.json", "*.safetensors"]})]
    torch.testing.assert_close(model(IDS), theirs(IDS).logits, atol=2e-4, rtol=1e-4)


def test_offline_the_hub_is_not_asked(tokenizer, monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("the network was used"))
    with pytest.raises(CheckpointError, match="org/name is no local folder and cannot be fetched"):
        _load("org/name", tokenizer)
    for name in ("/nowhere/at/all", "./nowhere", "a/b/c", "nowhere"):
        with pytest.raises(CheckpointError, match="there is no folder"):
            _load(name, tokenizer)


def test_causal_mode_gives_the_likelihood_of_the_autoregressive_network(qwen, tokenizer, lm):
    """The shift: with only the last column masked, its -log p is that of a left-to-right model at that column."""
    theirs, folder = qwen()
    ours = _load(folder, tokenizer, causal=True)
    text = [7, 9, 12, 8, 8, 10]
    clean = torch.tensor([[4, *text]])
    expected = -theirs(clean).logits.log_softmax(-1)[0]
    for column in range(1, 7):
        batch = copy.copy(lm([text], length=6))
        ids = clean[:, : column + 1].clone()
        ids[0, column] = 2
        where = torch.tensor([column])
        batch |= {"input_ids": ids, "attention_mask": ids > 0, "target_ids": clean[:, : column + 1]}
        batch |= {"predicted": where, "source": where - 1, "target_mask": ids == 2}
        out = DreamLoss(LossConfig(weight="tokens"), ours)(batch, seed=0)
        torch.testing.assert_close(out.loss, expected[column - 1, clean[0, column]], atol=1e-4, rtol=1e-4)


def test_sizes_that_do_not_go_together_are_refused(tokenizer):
    from xlm_family_dream.model import DreamModel

    for options, message in (
        ({"dim": 30, "heads": 4}, "does not split"),
        ({"dim": 12, "heads": 4}, "heads of even size"),
        ({"heads": 4, "kv_heads": 3}, "does not divide"),
        ({"dtype": "int8"}, "dtype='int8'"),
    ):
        with pytest.raises(ConfigError, match=message):
            DreamModel(ModelConfig(**options), len(tokenizer))
