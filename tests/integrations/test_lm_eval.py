"""The model of lm-evaluation-harness: against the network asked by hand, and what it must not answer."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("lm_eval.api.model")

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from xlm_core import composition, families, run
from xlm_core.data.tokenizers import encode
from xlm_core.errors import ConfigError, DataError, FamilyError
from xlm_core.integrations import lm_eval
from xlm_core.integrations.lm_eval import XlmLM, windows

SMALL = ("trainer.precision=fp32", "trainer.accelerator=cpu", "trainer.eval_batch_size=3")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("some words\nand others\n")
    return path


@pytest.fixture
def made(text, monkeypatch):
    """Makes the model of an untrained run whose weights are large enough to matter."""

    def make(family, *overrides, data="text", **arguments):
        loaded = families.load(family)
        given = [f"family={family}", f"data={data}", f"data.path={text}", "data.length=24", *SMALL, *overrides]
        config = composition.check(composition.compose(given, [family]), loaded)
        parts = run.build(config, loaded)
        with torch.no_grad():
            for parameter in parts.model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(4).add_(torch.randn(parameter.shape) * 0.05)
        monkeypatch.setattr(lm_eval, "_restored", lambda name, checkpoint, given: (config, loaded, parts))
        return XlmLM(run="somewhere", **arguments)

    return make


def requests(kind, items):
    return [Instance(request_type=kind, doc={}, arguments=item, idx=n) for n, item in enumerate(items)]


def by_hand(model, context, continuation):
    """log p(continuation | BOS context) and whether it is the most probable at each place, of one row without padding."""
    tokenizer, network = model.parts.tokenizer, model.parts.model.eval()
    given, scored = encode(tokenizer, [context, continuation])
    ids = torch.tensor([[tokenizer.bos_token_id, *given, *scored]])
    with torch.inference_mode():
        logits = network(ids[:, :-1])[0, len(given) :].double()
    total = logits.log_softmax(-1)[range(len(scored)), scored].sum().item()
    return total, logits.argmax(-1).tolist() == scored


PAIRS = [("some", " words"), ("", "and"), ("longer context here", "x"), ("a", "bcdefgh"), ("é", "日")]


def test_log_likelihoods_are_the_networks_own_in_the_order_of_the_requests(made):
    model = made("arlm", "model=arlm_tiny")
    found = model.loglikelihood(requests("loglikelihood", PAIRS))
    assert found == [(pytest.approx(by_hand(model, *pair)[0], abs=1e-4), by_hand(model, *pair)[1]) for pair in PAIRS]
    assert len({round(total, 3) for total, _ in found}) == len(PAIRS)


def test_greedy_is_true_of_what_greedy_decoding_writes(made):
    model = made("arlm", "model=arlm_tiny")
    tokenizer, network = model.parts.tokenizer, model.parts.model.eval()
    ids = [tokenizer.bos_token_id, *encode(tokenizer, ["go"])[0]]
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        letters = torch.full((len(tokenizer),), -torch.inf)
        letters[list(range(7 + 97, 7 + 123))] = 0  # so that what is greedy can be written as a text
        head = network.head.forward
        patch.setattr(network.head, "forward", lambda hidden: head(hidden) + letters)
        for _ in range(4):
            ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
        best = tokenizer.decode(ids[3:])
        other = best[:-1] + ("a" if best[-1] != "a" else "b")
        found = model.loglikelihood(requests("loglikelihood", [("go", best), ("go", other)]))
    assert [greedy for _, greedy in found] == [True, False]


def test_the_chain_rule_holds_over_a_cut(made):
    model = made("arlm", "model=arlm_tiny")
    whole, first, second = model.loglikelihood(requests("loglikelihood", [("a", "bcdef"), ("a", "bcd"), ("abcd", "ef")]))
    assert whole[0] == pytest.approx(first[0] + second[0], abs=1e-4)


def test_blanks_belong_to_what_they_stand_before(made):
    model = made("arlm", "model=arlm_tiny")
    a, b = model.loglikelihood(requests("loglikelihood", [("some ", "words"), ("some", " words")]))
    assert a == b


def test_rolling_sums_windows_that_score_each_token_once(made):
    model = made("arlm", "model=arlm_tiny")
    text = "a text that has more letters than fit into two rows"[:50]
    rows = [("", text[:24]), (text[23:24], text[24:47]), (text[26:47], text[47:])]
    (found,) = model.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,)]))
    assert found == pytest.approx(sum(by_hand(model, *row)[0] for row in rows), abs=1e-3)


@pytest.mark.parametrize("count", [1, 4, 5, 6, 8, 9, 10, 23])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_windows_score_each_token_once_with_what_stands_before_it(count, width):
    found = list(windows(range(count), width))
    assert [token for _, scored in found for token in scored] == list(range(count))
    assert all([*given, *scored] == list(range(scored[-1] + 1))[-len(given) - len(scored) :] for given, scored in found)
    assert all(len(given) + len(scored) <= width for given, scored in found)
    if width > 1:
        assert all(given for given, _ in found[1:])
        assert all(len(given) + len(scored) == width for given, scored in found[1:])


@pytest.mark.parametrize("item", [("a" * 20, "b" * 5), ("", "c" * 25)])
def test_what_is_too_long_is_an_error_and_not_zero(made, item):
    with pytest.raises(DataError, match="item 1 has 25 tokens, more than the 24"):
        made("arlm", "model=arlm_tiny").loglikelihood(requests("loglikelihood", [("a", "b"), item]))


def test_what_is_empty_is_an_error_and_not_zero(made):
    model = made("arlm", "model=arlm_tiny")
    with pytest.raises(DataError, match="no tokens"):
        model.loglikelihood(requests("loglikelihood", [("a", "")]))
    with pytest.raises(DataError, match="no tokens"):
        model.loglikelihood_rolling(requests("loglikelihood_rolling", [("",)]))


def test_a_bound_says_that_it_is_one_and_is_below_zero(made, caplog):
    model = made("mdlm", "model=mdlm_tiny", "loss.eval_samples=2")
    assert "a lower bound" in caplog.text
    ((total, greedy),) = model.loglikelihood(requests("loglikelihood", [("ab", "cd")]))
    assert total < 0
    assert greedy is False


def test_a_family_without_likelihood_is_refused(made):
    with pytest.raises(FamilyError, match="ilm has no likelihood"):
        made("ilm", "model=ilm_tiny").loglikelihood(requests("loglikelihood", [("a", "b")]))


def test_a_family_that_scores_no_continuations_is_refused(made):
    with pytest.raises(FamilyError, match="scores no continuations"):
        made("flexmdm", "model=flexmdm_tiny").loglikelihood(requests("loglikelihood", [("a", "b")]))


def test_generation_stops_at_the_first_stop_string_and_at_the_length(made):
    model = made("arlm", "model=arlm_tiny", "predictor.max_new_tokens=12", "predictor.token.temperature=0.0")
    free, short = model.generate_until(requests("generate_until", [("ab", {}), ("ab", {"max_gen_toks": 3})]))
    tokenizer = model.parts.tokenizer
    assert tokenizer.decode(encode(tokenizer, [free])[0][:3]) == short or "\ufffd" in free
    letter = free[2]
    (cut,) = model.generate_until(requests("generate_until", [("ab", {"until": ["", letter]})]))
    assert cut == free[: free.index(letter)]


def test_holes_are_not_continued(made):
    with pytest.raises(ConfigError, match="infill"):
        made("mlm", "model=mlm_tiny", data="sudoku_easy")


def test_the_harness_knows_the_model_by_its_name():
    assert get_model("xlm") is XlmLM
