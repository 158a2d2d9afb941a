"""All of Hydra, and only here: composing a config, running a task on it, checking it, and instantiating `_target_`."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pluggy import PluginValidationError

from xlm_core import families, searchpath
from xlm_core.config import RunConfig
from xlm_core.errors import CheckpointError, ConfigError, Interrupted, XlmError
from xlm_core.families import PARTS, Family
from xlm_core.hookspecs import hookimpl
from xlm_core.schema import check as check
from xlm_core.schema import check_training as check_training
from xlm_core.schema import has_target, keys, similar
from xlm_core.schema import to_yaml as to_yaml
from xlm_core.searchpath import Source
from xlm_core.searchpath import recipe as recipe

log = logging.getLogger("xlm")

CONFIGS = "xlm_core.conf"
# Hydra 1.3 follows the rules of 1.1 unless it is told otherwise; 1.4 warns when it is told anything.
VERSION: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}
# 1.4 wants to be told that the code which a config names may be run. It is the user's own, as the config is.
TRUST = {"_execution_whitelist_": hydra.utils.UNSAFE_DISABLE_EXECUTION_CHECKS} if not VERSION else {}  # type: ignore[attr-defined]
EXTENSION = "extensions."
NESTED_KEY = re.compile(r"(?!hydra\.)[A-Za-z_]\w*(\.\w+)+\s*=")


class FamilyConfigs(SearchPathPlugin):
    """Puts the configs of the families in use, and the user's own, behind core's."""

    sources: ClassVar[Sequence[Source]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for source in self.sources:
            search_path.append(provider=source.provider, path=f"file://{source.folder}")


def compose(
    overrides: Sequence[str], names: Sequence[str] = (), config: str = "train", folder: Path | None = None
) -> DictConfig:
    """The config that overrides make, as Hydra's Compose API gives it: no run folder, nothing global left behind.

    Args:
        overrides: in Hydra's grammar, as `data=star` or `model.dim=64`.
        names: the families whose configs are on the search path.
        folder: one more folder of configs, behind those.

    Raises:
        ConfigError: an override or a config file is wrong.
        FamilyError: a family's configs cannot be used.
    """
    path = _sources(overrides, names, folder)
    with _explained(path), _on_path(path), hydra.initialize_config_module(CONFIGS, job_name="xlm", **VERSION):
        return hydra.compose(config, [_loose(override) for override in overrides])


def launch(
    arguments: Sequence[str], names: Sequence[str], task: Callable[[DictConfig, Path], Any], folder: Path | None = None
) -> list[Any]:
    """Run `task(config, run folder)` as a Hydra job, with the run folders, sweeps and launchers of `hydra.main`.

    Args:
        arguments: overrides, and Hydra's own flags, as `--multirun`.
        names, folder: as for `compose`.

    Returns:
        What the tasks returned, those that ran in this process.

    Raises:
        Exception: whatever the task raised; of a sweep, which goes on after a failed job, the first.
    """
    parent, typed, sweep = os.getpid(), sys.argv, "--multirun" in arguments
    results: list[Any] = []
    failures: list[Exception] = []

    def job(cfg: DictConfig) -> Any:
        # Launchers that start one process a rank run sys.argv again: they must find what the user typed.
        with _argv(typed):
            try:
                _refuse_ranks_in_sweep(cfg)
                results.append(task(cfg, Path(HydraConfig.get().runtime.output_dir)))
            except Exception as error:
                if os.getpid() != parent:
                    raise
                failures.append(error)
                if isinstance(error, Interrupted):
                    raise KeyboardInterrupt from error  # the one thing that ends a sweep
                if sweep:
                    log.error("job %s of the sweep failed: %s", HydraConfig.get().job.num, error)
                return None
        return results[-1]

    path = _sources(arguments, names, folder)
    flags = [argument if argument.startswith("--") else _loose(argument) for argument in arguments]
    with ExitStack() as stack:
        stack.enter_context(_explained(path))
        stack.enter_context(_on_path(path))
        stack.enter_context(_argv([typed[0], *flags]))
        # Hydra would print a traceback and exit by itself.
        stack.enter_context(_environment(HYDRA_FULL_ERROR="1", XLM_RUN_ID=_run_id(arguments)))
        try:
            hydra.main(config_path=f"pkg://{CONFIGS}", config_name="train", **VERSION)(job)()
        except KeyboardInterrupt:
            if not failures or not isinstance(failures[-1], Interrupted):
                raise
            failures = failures[-1:]
    if failures:
        raise failures[0]
    return results


def reload(path: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """The config of an earlier run with overrides. A group's option, as `predictor=NAME`, replaces the whole node.

    Args:
        path: of the run's config.yaml.
    """
    try:
        base: Any = OmegaConf.load(path)
        name = str(base.family.name)
    except (OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise CheckpointError(f"{path} is not the config of a run: {error}") from error
    groups = searchpath.options(searchpath.sources([name]))
    with _explained([]):
        parsed = OverridesParser.create().parse_overrides([_loose(override) for override in overrides])
    chosen = [override for override in parsed if override.key_or_group in groups]
    for override in chosen:
        group = override.key_or_group
        if group not in RunConfig.__dataclass_fields__ or group == "family":
            raise ConfigError(f"the {group} of a run cannot be changed", "Change single keys, as trainer.precision=fp32.")
        base[group] = compose([f"family={name}", str(override.input_line)], [name])[group]
    for override in parsed:
        if override not in chosen:
            _apply(base, override)
    return base  # type: ignore[no-any-return]


def slots(config: RunConfig, family: Family) -> None:
    """Let a part whose config has a `_target_` be built by that callable instead of by the family's hook, and put the config's
    extensions around the hooks, in place of those of a config before.

    Both come in as plugins, so that an extension wraps what a `_target_` builds, too.

    Raises:
        ConfigError: an extension cannot be imported, or has hooks that there are not.
    """
    nodes = [getattr(config, part) for part in PARTS]
    if any(has_target(node) for node in nodes):
        family.register(Slots(), "_target_")
    for name, _ in family.manager.list_name_plugin():
        if name.startswith(EXTENSION):
            family.manager.unregister(name=name)
    for name, node in config.extensions.items():
        _extend(family, name, node)


def _extend(family: Family, name: str, node: Any) -> None:
    if not has_target(node):
        hint = f"As extensions.{name}={{_target_: my_package.MyWrapper}}."
        raise ConfigError(f"extensions.{name} names no _target_", hint)
    try:
        family.register(_instantiate(node), f"{EXTENSION}{name}")
        family.manager.check_pending()
    except PluginValidationError as error:
        hint = "xlm_core.hookspecs has the hooks and their arguments."
        raise ConfigError(f"extensions.{name} cannot wrap a family: {' '.join(str(error).split())}", hint) from error


class Slots:
    """Hooks that build what `_target_` names, and nothing for nodes without one."""

    @hookimpl(tryfirst=True)
    def xlm_model(self, cfg: Any, tokenizer: Any) -> Any:
        return _instantiate(cfg, tokenizer=tokenizer)

    @hookimpl(tryfirst=True)
    def xlm_loss(self, cfg: Any, model: Any, tokenizer: Any) -> Any:
        return _instantiate(cfg, model=model, tokenizer=tokenizer)

    @hookimpl(tryfirst=True)
    def xlm_predictor(self, cfg: Any, model: Any, tokenizer: Any) -> Any:
        return _instantiate(cfg, model=model, tokenizer=tokenizer)

    @hookimpl(tryfirst=True)
    def xlm_collator(self, cfg: Any, tokenizer: Any, layout: Any, stage: Any) -> Any:
        return _instantiate(cfg, tokenizer=tokenizer, layout=layout, stage=stage)


def _instantiate(cfg: Any, **arguments: Any) -> Any:
    """Call `_target_` with the node's keys, and with those of the hook's arguments that its signature names."""
    if not has_target(cfg):
        return None
    target = cfg["_target_"]
    try:
        signature = inspect.signature(hydra.utils.get_object(target))
    except Exception as error:
        raise ConfigError(f"_target_ {target!r} cannot be imported: {error}", "It is the dotted path of a callable.") from error
    accepted = {name: value for name, value in arguments.items() if name in signature.parameters and name not in cfg}
    # Through _partial_, because Hydra would copy a model that it is given as an argument.
    factory = hydra.utils.instantiate({"_convert_": "all", **cfg, "_partial_": True}, **TRUST)
    built = functools.partial(factory, **accepted)
    return built if cfg.get("_partial_") else built()


def _apply(base: Any, override: Any) -> None:
    key = override.key_or_group
    if override.is_delete():
        parent, _, leaf = key.rpartition(".")
        (OmegaConf.select(base, parent) if parent else base).pop(leaf, None)
    else:
        OmegaConf.update(base, key, override.value(), force_add=True)


def _loose(override: str) -> str:
    """Let `trainer.threads=2` set a key that stands in no YAML file; `check` knows whether there is one."""
    return f"++{override}" if NESTED_KEY.match(override) else override


def _sources(overrides: Sequence[str], names: Sequence[str], folder: Path | None) -> list[Source]:
    """The search path of these overrides, with the plugin that ships the chosen data set."""
    data = [override.removeprefix("data=") for override in overrides if override.startswith("data=")]
    return searchpath.sources([*names, *searchpath.shippers(data)], folder)


@contextmanager
def _on_path(path: Sequence[Source]) -> Iterator[None]:
    Plugins.instance().register(FamilyConfigs)
    saved, FamilyConfigs.sources = FamilyConfigs.sources, path[1:]
    try:
        yield
    finally:
        FamilyConfigs.sources = saved


@contextmanager
def _argv(value: list[str]) -> Iterator[None]:
    saved, sys.argv = sys.argv, value
    try:
        yield
    finally:
        sys.argv = saved


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    saved = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _run_id(arguments: Sequence[str]) -> str:
    """What makes a run's folder its own. Processes of one run must agree on it: a parent says it in XLM_RUN_ID."""
    if given := os.environ.get("XLM_RUN_ID"):
        return given
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ:
        return f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not any(a.startswith("hydra.run.dir=") for a in arguments):
        raise ConfigError("the ranks of this run do not know its folder", "Set XLM_RUN_ID to one name for all of them.")
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(2)}"


def _refuse_ranks_in_sweep(cfg: DictConfig) -> None:
    job = HydraConfig.get()
    here = job.mode is not None and job.mode.name == "MULTIRUN" and "BasicLauncher" in job.launcher._target_
    if here and OmegaConf.select(cfg, "trainer.devices") not in (None, 1):
        what = "a sweep in this process cannot start several ranks for each run"
        raise ConfigError(what, "Take a launcher, as hydra/launcher=submitit_local.")


@contextmanager
def _explained(path: Sequence[Source]) -> Iterator[None]:
    """Say in one sentence what Hydra finds wrong."""
    try:
        yield
    except XlmError:
        raise
    except OverrideParseException as error:
        hint = "Overrides are KEY=VALUE, with quotes around a value that holds brackets, commas or =."
        raise ConfigError(f"cannot read the override {error.override!r}", hint) from error
    except MissingConfigException as error:
        raise _missing_option(error) from error
    except yaml.MarkedYAMLError as error:
        raise _broken_yaml(error, path) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise _composition_error(error, path) from error


def _missing_option(error: MissingConfigException) -> ConfigError:
    group, _, option = str(error.missing_cfg_file or "").rpartition("/")
    known = error.options or ()
    hint = " ".join(part for part in (families.nearest(option, known), f"It has {', '.join(known)}." if known else "") if part)
    return ConfigError(f"the config group {group!r} has no option {option!r}", hint)


def _broken_yaml(error: yaml.MarkedYAMLError, path: Sequence[Source]) -> XlmError:
    mark = error.problem_mark
    file = mark.name if mark else "?"
    what = f"{file}, line {mark.line + 1 if mark else '?'}, is not YAML: {error.problem}"
    owner = next((source.provider for source in path[1:] if file.startswith(str(source.folder))), "core")
    return ConfigError(what, f"The file belongs to {owner}.")


def _composition_error(error: Exception, path: Sequence[Source]) -> ConfigError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    unknown = re.search(r"Could not (?:override|delete|delete from config\.) '([^'=]+)", lines[0])
    if unknown:
        key = unknown[1]
        choices = [*searchpath.options(path), *keys(OmegaConf.structured(RunConfig))]
        return ConfigError(f"there is no config key or group {key!r}", similar(key, choices))
    return ConfigError(lines[0].rstrip("."), " ".join(lines[1:]))
