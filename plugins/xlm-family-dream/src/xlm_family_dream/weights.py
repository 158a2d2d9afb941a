"""Weights from and to folders of Dream and Qwen2: one table of names, read in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xlm_core.canvas import Specials
from xlm_core.errors import CheckpointError
from xlm_core.protocols import Tokenizer
from xlm_family_dream.config import ModelConfig
from xlm_family_dream.folder import CONFIG, Tensors, locate, read_config, write
from xlm_family_dream.model import DTYPES, DreamModel

KINDS = ("dream", "qwen2")
SHARD_BYTES = 5_000_000_000


class Entry(NamedTuple):
    """Rows begin .. end - 1 of a parameter, under its own name, are a whole tensor of the checkpoint."""

    tensor: str
    parameter: str
    shape: tuple[int, ...]
    begin: int
    end: int


def entries(model: DreamModel) -> Iterator[Entry]:
    """Every tensor of the checkpoint that holds this model. A tied head is none."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}
    widths = [heads * model.head_dim for heads in (model.cfg.heads, model.cfg.kv_heads, model.cfg.kv_heads)]
    for tensor, parameter in _whole(model):
        yield Entry(tensor, parameter, shapes[parameter], 0, shapes[parameter][0])
    for layer in range(model.cfg.layers):
        for kind in ("weight", "bias"):
            parameter, begin = f"blocks.{layer}.attention.qkv.{kind}", 0
            for part, width in zip("qkv", widths, strict=True):
                name = f"model.layers.{layer}.self_attn.{part}_proj.{kind}"
                yield Entry(name, parameter, (width, *shapes[parameter][1:]), begin, begin + width)
                begin += width


def _whole(model: DreamModel) -> Iterator[tuple[str, str]]:
    """(tensor, parameter) of those that are the same on both sides."""
    yield "model.embed_tokens.weight", "embedding.weight"
    yield "model.norm.weight", "final_norm.weight"
    if not model.cfg.tie_head:
        yield "lm_head.weight", "head.weight"
    names = {
        "input_layernorm": "attention_norm",
        "self_attn.o_proj": "attention.out",
        "post_attention_layernorm": "mlp_norm",
        "mlp.gate_proj": "mlp.gate",
        "mlp.up_proj": "mlp.up",
        "mlp.down_proj": "mlp.down",
    }
    for layer in range(model.cfg.layers):
        for theirs, ours in names.items():
            yield f"model.layers.{layer}.{theirs}.weight", f"blocks.{layer}.{ours}.weight"


def load(cfg: ModelConfig, tokenizer: Tokenizer) -> DreamModel:
    """The network in `cfg.pretrained`, with the sizes that its config.json says.

    Raises:
        CheckpointError: no such folder, another kind of network, tensors that are missing, too many or of other shapes, or a
            tokenizer that is not the checkpoint's.
    """
    folder = locate(str(cfg.pretrained), cfg.revision)
    config = read_config(folder)
    sizes, vocab_size = _sizes(config, folder)
    _check_tokenizer(config, vocab_size, tokenizer, folder)
    with torch.device("meta"):
        model = DreamModel(replace(cfg, **sizes), vocab_size)
    tensors = Tensors(folder)
    table = {entry.tensor: entry for entry in entries(model)}
    _check_tensors(table, tensors.shapes(), folder, tied=model.cfg.tie_head)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    state = {name: torch.empty(shape, dtype=DTYPES[cfg.dtype]) for name, shape in shapes.items()}
    for name, tensor in tensors.read(list(table)):
        entry = table[name]
        state[entry.parameter][entry.begin : entry.end] = tensor
    if model.cfg.tie_head:
        state["head.weight"] = state["embedding.weight"]
    model.load_state_dict(state, assign=True)
    model.tie()
    return model


def export(model: DreamModel, folder: str | Path, tokenizer: Tokenizer, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the network as a folder that `load` and Hugging Face read: as Dream, or as Qwen2 where it is causal.

    Args:
        shard_bytes: most that one file holds; a larger tensor has a file of its own.
    """
    state = model.state_dict()
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for entry in sorted(entries(model)):
        tensor = state[entry.parameter][entry.begin : entry.end].detach().cpu().clone()
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][entry.tensor] = tensor
        size += tensor.nbytes
    write(Path(folder), _described(model, tokenizer), shards)


def _described(model: DreamModel, tokenizer: Tokenizer) -> dict[str, Any]:
    cfg, specials = model.cfg, Specials.of(tokenizer)
    return {
        "architectures": ["Qwen2ForCausalLM" if cfg.causal else "DreamModel"],
        "model_type": "qwen2" if cfg.causal else "Dream",
        "vocab_size": model.embedding.num_embeddings,
        "hidden_size": cfg.dim,
        "intermediate_size": cfg.hidden,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "num_key_value_heads": cfg.kv_heads,
        "hidden_act": "silu",
        "rms_norm_eps": cfg.norm_eps,
        "rope_theta": cfg.rope_theta,
        "tie_word_embeddings": cfg.tie_head,
        "use_sliding_window": False,
        "torch_dtype": cfg.dtype,
        "pad_token_id": specials.pad,
        "bos_token_id": specials.bos,
        "eos_token_id": specials.eos,
        "mask_token_id": specials.mask,
    }


def _sizes(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], int]:
    """Our names for the sizes, and V."""
    if str(config.get("model_type", "")).lower() not in KINDS:
        what = f"{folder / CONFIG} is of a {config.get('model_type')} network"
        raise CheckpointError(what, "Dream reads Dream and Qwen2 (Qwen2.5) checkpoints.")
    try:
        heads = int(config["num_attention_heads"])
        sizes: dict[str, Any] = {
            "dim": int(config["hidden_size"]),
            "layers": int(config["num_hidden_layers"]),
            "heads": heads,
            "kv_heads": int(config.get("num_key_value_heads") or heads),
            "hidden": int(config["intermediate_size"]),
            "rope_theta": _theta(config),
            "norm_eps": float(config.get("rms_norm_eps", 1e-6)),
            "tie_head": bool(config.get("tie_word_embeddings", False)),
        }
        vocab_size = int(config["vocab_size"])
    except (KeyError, TypeError, ValueError) as error:
        what = f"{folder / CONFIG} lacks a size or has none that is a number: {error}"
        raise CheckpointError(what, "Download it again.") from error
    _check_supported(config, sizes, folder)
    return sizes, vocab_size


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where newer and older folders say how positions are rotated."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _theta(config: Mapping[str, Any]) -> float:
    return float(_rope(config).get("rope_theta") or config.get("rope_theta") or 10000.0)


def _check_supported(config: Mapping[str, Any], sizes: Mapping[str, Any], folder: Path) -> None:
    """What Qwen2 may have beside its sizes, and this network has not: it would load, and compute something else."""
    rope = _rope(config)
    kind = rope.get("rope_type", rope.get("type", "default"))
    found = {
        f"rotary scaling of type {kind}": kind != "default",
        "sliding-window attention": bool(config.get("use_sliding_window")),
        f"the activation {config.get('hidden_act')}": config.get("hidden_act", "silu") != "silu",
        "heads that do not make up its width": config.get("head_dim") not in (None, sizes["dim"] // sizes["heads"]),
    }
    for what, present in found.items():
        if present:
            raise CheckpointError(f"the network in {folder} has {what}, which is not supported", "Choose another checkpoint.")


def _check_tokenizer(config: Mapping[str, Any], vocab_size: int, tokenizer: Tokenizer, folder: Path) -> None:
    hint = "Use the tokenizer of the checkpoint: tokenizer=pretrained, and its folder or Hub name as tokenizer.name."
    if len(tokenizer) > vocab_size:
        raise CheckpointError(f"{folder} has {vocab_size} token embeddings, and the tokenizer {len(tokenizer)} tokens", hint)
    mask = config.get("mask_token_id")
    if mask not in (None, tokenizer.mask_token_id):
        raise CheckpointError(f"the mask is token {mask} in {folder} and {tokenizer.mask_token_id} in the tokenizer", hint)


def _check_tensors(table: Mapping[str, Entry], shapes: Mapping[str, tuple[int, ...]], folder: Path, *, tied: bool) -> None:
    """One error that says everything. A copy of the embedding as a tied head, and rotary tables, are passed over."""
    spare = {name for name in shapes if name.endswith("rotary_emb.inv_freq") or (tied and name == "lm_head.weight")}
    problems = {
        "missing": [name for name in table if name not in shapes],
        "unexpected": [name for name in shapes if name not in table and name not in spare],
        "of another shape": [
            f"{name} ({_times(shapes[name])} instead of {_times(entry.shape)})"
            for name, entry in table.items()
            if name in shapes and shapes[name] != entry.shape
        ],
    }
    found = [f"{len(names)} {what}: {_some(sorted(names))}" for what, names in problems.items() if names]
    if found:
        hint = "Is config.json of the same network, and are all files there?"
        raise CheckpointError(f"the tensors in {folder} are not those of its config.json; {'; '.join(found)}", hint)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", .." if len(names) > 3 else "")
