"""Checking a composed config against the dataclasses of core and of the family."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from xlm_core import families
from xlm_core.config import RunConfig
from xlm_core.errors import ConfigError
from xlm_core.families import Family
from xlm_core.protocols import Layout


def check(cfg: DictConfig, family: Family | None = None) -> RunConfig:
    """The config as dataclasses, with every value resolved. Without a family, its own nodes stay empty.

    Raises:
        ConfigError: a key or value is wrong or missing, or the family cannot do what the data need.
    """
    schema = _schema(cfg, family)
    try:
        merged = OmegaConf.merge(schema, cfg)
        OmegaConf.resolve(merged)
        missing = sorted(OmegaConf.missing_keys(merged))
        if "data.name" in missing:
            raise ConfigError("no data set is chosen", "data=NAME; `xlm data list` shows them.")
        if missing:
            raise ConfigError(f"{missing[0]} has no value", f"Give {missing[0]}=VALUE.")
        config: RunConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise _key_error(error, schema) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if family is not None:
        _check_family(config, family)
    return config


def to_yaml(config: RunConfig) -> str:
    """A checked config as YAML that `reload` reads."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def has_target(node: Any) -> bool:
    return isinstance(node, Mapping) and "_target_" in node


def _schema(cfg: DictConfig, family: Family | None) -> DictConfig:
    schema = OmegaConf.structured(RunConfig)
    if family is None:
        schema.family.name = ""
        return schema  # type: ignore[no-any-return]
    for part, kind in family.info.configs.items():
        if has_target(OmegaConf.select(cfg, part)):
            continue
        try:
            schema[part] = OmegaConf.structured(kind)
        except OmegaConfBaseException as error:
            raise families.broken(
                family.record, f"has an unreadable dataclass {kind.__qualname__}: {first_line(error)}"
            ) from error
    return schema  # type: ignore[no-any-return]


def _check_family(config: RunConfig, family: Family) -> None:
    name, info, data = family.record.name, family.info, config.data
    if config.family.name != name:
        raise families.broken(family.record, f"calls itself {config.family.name!r} in conf/family/{name}.yaml")
    if data.layout not in get_args(Layout):
        raise ConfigError(f"data.layout is {data.layout!r}", f"One of {', '.join(get_args(Layout))}.")
    if data.layout not in info.layouts:
        what = f"{data.name} has the layout {data.layout!r}, which the family {name} cannot learn"
        raise ConfigError(what, f"It can learn {', '.join(info.layouts)}.")
    if data.packing and not info.packed:
        hint = "With data.packing=false each document has its row."
        raise ConfigError(f"the family {name} does not learn from packed rows", hint)


def check_training(config: RunConfig) -> None:
    """Say that the data cannot be trained on, where they have no such split. A network can still be measured on them.

    Raises:
        ConfigError: there is no split `train`, and there are steps to train.
    """
    data = config.data
    if "train" not in data.splits and config.trainer.max_steps > 0:
        hint = f"Train on other data, then `xlm eval RUN data={data.name}`; trainer.max_steps=0 measures weights as they are."
        raise ConfigError(f"{data.name} has no split train, only {', '.join(data.splits)}", hint)


def _key_error(error: OmegaConfBaseException, schema: DictConfig) -> ConfigError:
    key = str(error.full_key or "")
    if isinstance(error, ConfigKeyError):
        parent = key.rpartition(".")[0]
        beside = [f"{parent}.{name}" for name in error.parent_node or ()] if parent else []
        return ConfigError(f"there is no config key {key!r}", similar(key, [*keys(schema), *beside]))
    return ConfigError(f"{key}: {first_line(error)}" if key else first_line(error))


def similar(key: str, choices: Iterable[str]) -> str:
    """Offer the most similar key beside this one, or the key of this name elsewhere; else list those beside it."""
    parent, dot, leaf = key.rpartition(".")
    places = [choice.rpartition(".") for choice in dict.fromkeys(choices)]
    beside = [name for place, _, name in places if place == parent]
    elsewhere = [f"{place}.{name}" for place, _, name in places if name == leaf]
    if close := difflib.get_close_matches(leaf, beside, n=1):
        return f"Did you mean {parent + dot + close[0]!r}?"
    if elsewhere:
        return f"Did you mean {elsewhere[0]!r}?"
    return f"{parent or 'The config'} has {', '.join(beside)}."


def keys(schema: Any, prefix: str = "") -> list[str]:
    found = []
    for key in schema:
        found.append(f"{prefix}{key}")
        child = schema._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            found += keys(child, f"{prefix}{key}.")
    return found


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
