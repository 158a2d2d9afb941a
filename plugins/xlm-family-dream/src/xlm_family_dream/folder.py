"""Checkpoint folders as Hugging Face lays them out: config.json beside one safetensors file, or several with an index."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xlm_core.errors import CheckpointError

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def locate(name: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint: a local one, or the files of a Hub repository that hold numbers and names, never code.

    Raises:
        CheckpointError: there is neither.
    """
    local = Path(name).expanduser()
    if local.is_dir():
        return local
    if local.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise CheckpointError(f"there is no folder {name}", "model.pretrained is a local folder or a Hub name as org/name.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the Hub's client, its cache and the network fail in many ways, and all mean this
        reason = str(error).strip().split("\n")[0]
        hint = "Without network, set model.pretrained to a local folder with config.json and safetensors files."
        raise CheckpointError(f"{name} is no local folder and cannot be fetched from the Hub: {reason}", hint) from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json. Raises `CheckpointError` where there is none that can be read."""
    found = _read_json(folder / CONFIG)
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / CONFIG} holds no object", "Download the folder again.")
    return found


class Tensors:
    """The tensors of a folder, read from its files one at a time.

    Raises:
        CheckpointError: no safetensors, a file that is missing, unreadable, or outside the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / INDEX).is_file():
            self._files = self._indexed()
        elif (folder / SINGLE).is_file():
            with self._open(SINGLE) as file:
                self._files = dict.fromkeys(file.keys(), SINGLE)
        else:
            hint = "Weights in other formats are not read, since they may run code: convert them to safetensors."
            raise CheckpointError(f"there is neither {SINGLE} nor {INDEX} in {folder}", hint)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor that is in its file; a name of the index that is not is left out."""
        found = {}
        for file in sorted(set(self._files.values())):
            with self._open(file) as opened:
                found.update({name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()})  # noqa: SIM118
        return {name: shape for name, shape in found.items() if name in self._files}

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """These tensors, file by file."""
        for file in sorted({self._files[name] for name in names}):
            with self._open(file) as opened:
                for name in names:
                    if self._files[name] == file:
                        yield name, opened.get_tensor(name)

    def _indexed(self) -> dict[str, str]:
        content = _read_json(self.folder / INDEX)
        files = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(files, dict):
            raise CheckpointError(f"{self.folder / INDEX} has no weight_map", "Download the folder again.")
        strange = sorted({str(file) for file in files.values() if Path(str(file)).name != file})
        if strange:
            raise CheckpointError(f"{INDEX} names {strange[0]}, which is not in its folder", "Do not use this checkpoint.")
        return files

    @contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        try:
            with safe_open(self.folder / name, framework="pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            what = f"{self.folder / name} cannot be read: {error}"
            raise CheckpointError(what, "Download the folder again; is one of its files missing?") from error


def write(folder: Path, config: Mapping[str, Any], shards: Sequence[Mapping[str, Tensor]]) -> None:
    """Write what `read_config` and `Tensors` read. Every file appears whole or not at all, config.json last.

    Args:
        shards: what each file holds; one is written without an index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [SINGLE] if len(shards) == 1 else [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in _counted(shards)]
    scratch = Path(tempfile.mkdtemp(dir=folder))
    try:
        for name, shard in zip(names, shards, strict=True):
            save_file(dict(shard), scratch / name, metadata={"format": "pt"})
        if len(shards) > 1:
            size = sum(tensor.nbytes for shard in shards for tensor in shard.values())
            files = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
            _write_json(scratch / INDEX, {"metadata": {"total_size": size}, "weight_map": files})
        _write_json(scratch / CONFIG, config)
        for name in [*names, *([INDEX] if len(shards) > 1 else [])]:
            os.replace(scratch / name, folder / name)
        if len(shards) == 1:
            (folder / INDEX).unlink(missing_ok=True)  # of an earlier checkpoint, which it would go on naming
        os.replace(scratch / CONFIG, folder / CONFIG)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _counted(shards: Sequence[Any]) -> range:
    return range(1, len(shards) + 1)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "A checkpoint folder has it beside its weights.") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
