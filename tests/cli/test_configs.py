from __future__ import annotations

import json


def test_listing_says_whose_each_is(xlm, site):
    site.install("toy")
    rows = json.loads(xlm("configs", "list", "--json").out)
    assert {"group": "model", "option": "toy_small", "from": "xlm-family-toy 1.2.3"} in rows
    assert {"group": "trainer", "option": "cpu", "from": "core"} in rows
    assert {row["group"] for row in json.loads(xlm("configs", "list", "model", "--json").out)} == {"model"}


def test_a_family_with_broken_configs_is_left_out(xlm, site, configs_of):
    site.install("toy", files={**configs_of("toy"), "trainer/cpu.yaml": ""})
    site.install("sound")
    printed = xlm("configs", "list").out
    assert "sound_small" in printed
    assert "toy_small" not in printed


def test_showing_prints_the_file(xlm, site):
    site.install("toy")
    assert xlm("configs", "show", "model/toy_large").out == "dim: 64\nrate: 0.25\n"


def test_copying_gives_a_config_of_ones_own(xlm, fake, site, mine):
    site.install("toy")
    called = xlm("configs", "copy", "model/toy_large", mine)
    copied = mine / "model" / "my_toy_large.yaml"
    assert called.out == f"{copied}\n"
    assert f"--config-dir {mine} model=my_toy_large" in called.err
    copied.write_text(copied.read_text().replace("64", "65"))
    xlm("train", "-f", "toy", "-d", "words", "--config-dir", mine, "model=my_toy_large")
    assert fake.calls[0][1]["config"].model.dim == 65


def test_copying_never_overwrites(xlm, site, mine):
    site.install("toy")
    target = mine / "model" / "second.yaml"
    assert xlm("configs", "copy", "model/toy_large", target).code == 0
    target.write_text("edited")
    assert xlm("configs", "copy", "model/toy_large", target).code == 2
    assert target.read_text() == "edited"


def test_unknown_names_offer_the_nearest(xlm, site):
    site.install("toy")
    assert "Did you mean 'model/toy_large'?" in xlm("configs", "show", "model/toy_lrge").err
    assert "Did you mean 'model/toy_large'?" in xlm("configs", "show", "toy_large").err
    called = xlm("configs", "list", "modle")
    assert (called.code, "Did you mean 'model'?" in called.err) == (2, True)
