from __future__ import annotations

import json


def test_listing_names_every_family_and_its_state(xlm, site):
    site.install("toy")
    site.install("old", requires=("xlm-core<1",))
    site.install("bad", init="raise RuntimeError")
    called = xlm("families", "list", "--json")
    rows = {row["name"]: row for row in json.loads(called.out)}
    assert (called.code, called.err) == (0, "")
    assert rows["toy"] == {"name": "toy", "distribution": "xlm-family-toy", "version": "1.2.3", "status": "ok", "detail": ""}
    assert rows["old"]["status"] == "incompatible"
    assert rows["bad"]["status"] == "ok"
    lines = xlm("families", "list").out.splitlines()
    assert lines[0].split() == ["name", "distribution", "version", "status", "detail"]
    assert ["toy", "xlm-family-toy", "1.2.3", "ok"] in [line.split() for line in lines]


def test_showing_one(xlm, site):
    site.install("toy")
    shown = json.loads(xlm("families", "show", "toy", "--json").out)
    assert shown["layouts"] == ["lm", "infill"]
    assert shown["package"] == "xlm-family-toy 1.2.3"
    assert shown["configs"]["model"] == ["toy_large", "toy_small"]
    assert shown["configs"]["experiment"] == ["words_toy", "words_toy_cpu"]
    assert "layouts           lm, infill" in xlm("families", "show", "toy").out


def test_showing_a_broken_one(xlm, site):
    site.install("bad", init="raise RuntimeError('no libcudart.so')")
    called = xlm("families", "show", "bad")
    assert called.code == 3
    assert "family 'bad' (xlm-family-bad 1.2.3) does not import" in called.err
