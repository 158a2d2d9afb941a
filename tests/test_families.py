from __future__ import annotations

import sys

import importlib_metadata
import pytest

from xlm_core import families
from xlm_core.errors import FamilyError
from xlm_core.hookspecs import hookimpl


def misspelt(hook: str, source: str) -> str:
    return source.replace(f"def {hook}(", f"def {hook[:-1]}(")


def test_a_record_is_what_the_wheel_says(site):
    site.install("toy")
    record = families.installed()["toy"]
    assert (record.name, record.target, record.distribution, record.version) == (
        "toy",
        "xlm_family_toy.plugin",
        "xlm-family-toy",
        "1.2.3",
    )
    assert (record.status, record.detail, record.origin) == ("ok", "", "xlm-family-toy 1.2.3")
    assert record.configs == site.folder / "xlm_family_toy" / "conf"


def test_listing_imports_no_plugin(site):
    site.install("toy", init="raise RuntimeError('imported')")
    record = families.installed()["toy"]
    assert record.status == "ok"
    assert record.configs is not None
    assert not [name for name in sys.modules if name.startswith("xlm_family_toy")]


@pytest.mark.parametrize(
    ("requires", "status", "detail"),
    [
        (("xlm-core>=1.0,<2",), "ok", ""),
        (("XLM_core>=1.0",), "ok", ""),
        (("xlm-core",), "ok", ""),
        (("xlm-core>=2",), "incompatible", "it needs xlm-core >=2, and {core} is installed"),
        (("numpy", "xlm-core<1; python_version > '3'"), "incompatible", "it needs xlm-core <1, and {core} is installed"),
        (("numpy",), "incompatible", "it declares no dependency on xlm-core"),
        (("xlm-core>=1; extra == 'all'",), "incompatible", "it declares no dependency on xlm-core"),
        (("xlm-core>=>1",), "incompatible", "its requirements cannot be read"),
    ],
)
def test_compatibility_is_read_from_the_requirements(site, requires, status, detail):
    site.install("toy", requires=requires)
    record = families.installed()["toy"]
    assert record.status == status
    assert record.detail.startswith(detail.format(core=importlib_metadata.version("xlm-core")))
    if status != "ok":
        with pytest.raises(FamilyError, match=r"family 'toy' \(xlm-family-toy 1\.2\.3\) is unusable: it"):
            families.load("toy")


@pytest.mark.parametrize("name", ["Toy", "toy-2", "2toy", "tö"])
def test_names_are_those_that_yaml_and_python_take(site, name):
    site.install(name, distribution="xlm-family-toy")
    assert families.installed()[name].status == "incompatible"


def test_two_distributions_of_one_name_are_a_conflict_of_that_name_only(site):
    site.install("toy")
    site.install("toy", distribution="other-toy")
    site.install("sound")
    record = families.installed()["toy"]
    assert record.status == "conflict"
    with pytest.raises(FamilyError, match=r"other-toy 1\.2\.3 and xlm-family-toy 1\.2\.3 both provide it"):
        families.load("toy")
    assert families.load("sound").record.status == "ok"


def test_an_entry_point_that_is_listed_twice_counts_once(site):
    site.install("toy", twice=True)
    assert families.load("toy").record.status == "ok"


def test_a_disabled_family_is_not_imported(site, monkeypatch):
    site.install("toy")
    monkeypatch.setenv("XLM_DISABLE_FAMILIES", "other, toy")
    assert families.installed()["toy"].status == "disabled"
    with pytest.raises(FamilyError, match="XLM_DISABLE_FAMILIES names it"):
        families.load("toy")
    assert "xlm_family_toy" not in sys.modules


def test_loading_gives_the_hooks_and_the_info(site):
    site.install("toy")
    family = families.load("toy")
    assert family.info.layouts == ("lm", "infill")
    assert family.hook.xlm_model(cfg=1, tokenizer=2) == ["model", 1, 2]
    assert family.hook.xlm_loss(cfg=1, model=2, tokenizer=3) == ["loss", 1, 2]
    assert family.hook.xlm_collator(cfg=1, tokenizer=2, layout="lm", stage="train") == ["collator", 1, 2, "lm", "train"]


def test_families_do_not_share_a_manager(site):
    site.install("toy")
    site.install("sound")
    toy, sound = families.load("toy"), families.load("sound")

    class Other:
        @hookimpl(tryfirst=True)
        def xlm_model(self, cfg):
            return "other"

    toy.register(Other(), "other")
    assert toy.hook.xlm_model(cfg=1, tokenizer=2) == "other"
    assert sound.hook.xlm_model(cfg=1, tokenizer=2) == ["model", 1, 2]


def test_a_plugin_of_the_same_name_is_replaced(site):
    site.install("toy")
    family = families.load("toy")

    class Wrapper:
        @hookimpl(wrapper=True)
        def xlm_model(self, cfg):
            return ["wrapped", (yield)]

    family.register(Wrapper(), "wrapper")
    family.register(Wrapper(), "wrapper")
    assert family.hook.xlm_model(cfg=1, tokenizer=2) == ["wrapped", ["model", 1, 2]]


def test_an_unknown_name_offers_the_nearest(site):
    site.install("toy")
    with pytest.raises(FamilyError, match="no family named 'tow'") as caught:
        families.load("tow")
    assert caught.value.hint == "Did you mean 'toy'?"
    assert caught.value.exit_code == 3
    with pytest.raises(FamilyError) as caught:
        families.load("quite_different")
    assert "toy" in caught.value.hint
    assert "pip install xlm-family-quite_different" in caught.value.hint


def test_without_families_the_hint_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(importlib_metadata, "entry_points", lambda **_: ())
    with pytest.raises(FamilyError) as caught:
        families.load("ilm")
    assert caught.value.hint == "No family is installed: `pip install xlm-family-ilm` gets one."


@pytest.mark.parametrize(
    "failure", ["RuntimeError('no libcudart.so')", "ImportError('no libcudart.so')", "SystemExit('no libcudart.so')"]
)
def test_a_plugin_that_raises_on_import(site, failure):
    site.install("toy", init=f"raise {failure}")
    with pytest.raises(
        FamilyError, match=r"family 'toy' \(xlm-family-toy 1\.2\.3\) does not import: .*no libcudart\.so"
    ) as caught:
        families.load("toy")
    assert caught.value.__cause__ is not None
    assert "XLM_DEBUG" in caught.value.hint


@pytest.mark.parametrize("hook", families.HOOKS)
def test_a_misspelt_hook_offers_the_right_one(site, source, hook):
    site.install("toy", plugin=misspelt(hook, source))
    with pytest.raises(FamilyError, match=r"xlm-family-toy 1\.2\.3\) implements the unknown hook") as caught:
        families.load("toy")
    assert caught.value.hint == f"Did you mean {hook!r}?"


@pytest.mark.parametrize("hook", families.HOOKS)
def test_a_missing_hook_is_named(site, source, hook):
    site.install("toy", plugin=source.replace(f"@hookimpl\ndef {hook}(", f"def {hook}("))
    with pytest.raises(FamilyError, match=rf"xlm-family-toy 1\.2\.3\) does not implement {hook}$"):
        families.load("toy")


def test_a_hook_with_an_argument_that_is_not_given(site, source):
    site.install("toy", plugin=source.replace("def xlm_model(cfg, tokenizer)", "def xlm_model(cfg, device)"))
    with pytest.raises(FamilyError, match=r"xlm-family-toy 1\.2\.3\) has a hook of another form: .*device"):
        families.load("toy")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('return FamilyInfo(title="A toy"', 'raise OSError("lost") or dict(title="A toy"', "fails in xlm_info: OSError: lost"),
        ("return FamilyInfo(", "return dict(", "it returns dict, not FamilyInfo"),
        ('("lm", "infill")', '("lm", "tree")', r"layouts are \('lm', 'tree'\)"),
        ('("lm", "infill")', "()", r"layouts are \(\)"),
        ('likelihood="none"', 'likelihood="maybe"', "likelihood is 'maybe'"),
        ('"predictor": Part, ', "", r"configs has the keys \['collator', 'loss', 'model'\]"),
        ('"loss": Empty', '"loss": dict', "configs.loss is not a dataclass"),
    ],
)
def test_what_a_family_declares_is_checked(site, source, old, new, fault):
    assert old in source
    site.install("toy", plugin=source.replace(old, new))
    with pytest.raises(FamilyError, match=rf"xlm-family-toy 1\.2\.3\).*{fault}"):
        families.load("toy")


def test_a_broken_plugin_harms_nobody_else(site, source):
    site.install("sound")
    site.install("raising", init="raise RuntimeError")
    site.install("old", requires=("xlm-core<1",))
    site.install("misspelt", plugin=misspelt("xlm_model", source))
    site.install("empty", plugin="")
    found = families.installed()
    statuses = {name: found[name].status for name in ("sound", "raising", "old", "misspelt", "empty")}
    assert statuses == {"sound": "ok", "raising": "ok", "old": "incompatible", "misspelt": "ok", "empty": "ok"}
    assert families.load("sound").hook.xlm_model(cfg=1, tokenizer=2) == ["model", 1, 2]
    for name in ("raising", "old", "misspelt", "empty"):
        with pytest.raises(FamilyError, match=rf"family {name!r} \(xlm-family-{name} 1\.2\.3\)"):
            families.load(name)
