import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xlm_core.canvas import Specials
from xlm_core.config import TokenizerConfig
from xlm_core.data import offline
from xlm_core.data.tokenizers import ROLES, build, encode, fingerprint, load, save
from xlm_core.errors import ConfigError, DataError

FORGED = "[PAD] [CLS] [MASK][EOS] x[BOS]y [SEP] [UNK] <|endoftext|>"
CONFIGS = {
    "numbers": TokenizerConfig(kind="numbers", size=20),
    "words": TokenizerConfig(kind="words", words=["red", "green", "[", "x"]),
    "byte": TokenizerConfig(kind="byte"),
    "char": TokenizerConfig(kind="char"),
    "smiles": TokenizerConfig(kind="smiles"),
}
BYTE = build(CONFIGS["byte"])
CHAR = build(CONFIGS["char"])


@pytest.fixture(params=CONFIGS)
def tokenizer(request):
    return build(CONFIGS[request.param])


def test_the_special_tokens_come_first_in_the_canonical_order(tokenizer):
    assert Specials.of(tokenizer) == Specials(pad=0, cls=1, mask=2, eos=3, bos=4, sep=5, unk=6)


def test_numbers_follow_the_special_tokens():
    tokenizer = build(CONFIGS["numbers"])
    assert len(tokenizer) == 27
    assert encode(tokenizer, ["0 19 3", "", "7"]) == [[7, 26, 10], [], [14]]
    assert tokenizer.decode([7, 26, 10]) == "0 19 3"
    assert encode(tokenizer, ["20 -1 1.5"]) == [[6, 6, 6]]


def test_byte_ids_are_the_bytes_of_utf8():
    text = "aé\n€\x00 🎉"
    assert encode(BYTE, [text]) == [[7 + byte for byte in text.encode()]]
    assert len(BYTE) == 263


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_come_back_exactly(text):
    assert BYTE.decode(encode(BYTE, [text])[0], skip_special_tokens=True) == text


@given(st.text(string.printable[:95] + "\t\n"))
def test_characters_of_the_alphabet_come_back_exactly(text):
    (ids,) = encode(CHAR, [text])
    assert len(ids) == len(text)
    assert CHAR.decode(ids, skip_special_tokens=True) == text


def test_each_character_outside_the_alphabet_is_unknown():
    assert encode(build(TokenizerConfig(kind="char", alphabet="ba ")), ["ab éé\n"]) == [[8, 7, 9, 6, 6, 6]]


def test_the_alphabet_may_come_from_a_file(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text("ça va", encoding="utf-8")
    explicit = build(TokenizerConfig(kind="char", path=str(file)))
    assert encode(explicit, ["ça"]) == [[11, 9]]  # from 7 on: newline, space, a, v, ç
    assert fingerprint(build(TokenizerConfig(kind="char"), text_path=str(file))) == fingerprint(explicit)
    assert len(build(TokenizerConfig(kind="char", alphabet="xy"), text_path=str(file))) == 9
    for other in (tmp_path, tmp_path / "corpus.jsonl"):
        (tmp_path / "corpus.jsonl").write_text("{}")
        assert fingerprint(build(TokenizerConfig(kind="char"), text_path=str(other))) == fingerprint(CHAR)


def test_words_may_come_from_a_file(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("b\na\n")
    assert encode(build(TokenizerConfig(kind="words", path=str(file))), ["a  b"]) == [[8, 7]]


def test_text_forges_no_control_token(tokenizer):
    (ids,) = encode(tokenizer, [FORGED])
    assert not set(ids) & set(Specials.of(tokenizer).never_generated[:-1])  # all but UNK
    assert tokenizer.eos_token_id not in ids


def test_encoding_does_not_depend_on_how_the_tokenizer_was_used_before(tokenizer):
    before = encode(tokenizer, [FORGED, "1 x"])
    tokenizer([FORGED, "1 x"], padding="max_length", truncation=True, max_length=3)
    assert encode(tokenizer, [FORGED, "1 x"]) == before


def test_special_tokens_are_skipped_in_decoding(tokenizer):
    ids = [4, 9, 3, 0, 0]
    assert tokenizer.decode(ids, skip_special_tokens=True) == tokenizer.decode([9])
    assert "[EOS]" in tokenizer.decode(ids)


def test_saved_tokenizers_come_back(tokenizer, tmp_path):
    save(tokenizer, tmp_path / "a" / "tokenizer")
    for again in (load(tmp_path / "a" / "tokenizer"), AutoTokenizer.from_pretrained(tmp_path / "a" / "tokenizer")):
        assert isinstance(again, PreTrainedTokenizerFast)
        assert Specials.of(again) == Specials.of(tokenizer)
        assert fingerprint(again) == fingerprint(tokenizer)
        assert encode(again, [FORGED, "red 3"]) == encode(tokenizer, [FORGED, "red 3"])
        assert again.decode([9, 7, 8]) == tokenizer.decode([9, 7, 8])


def test_fingerprints_tell_tokenizers_apart(tokenizer):
    prints = {name: fingerprint(build(config)) for name, config in CONFIGS.items()}
    prints["other"] = fingerprint(build(TokenizerConfig(kind="words", words=["green", "red", "[", "x"])))
    assert len(set(prints.values())) == len(prints)
    assert fingerprint(tokenizer) in prints.values()


def test_the_same_vocabulary_with_other_roles_is_another_tokenizer():
    first, second = build(CONFIGS["byte"]), build(CONFIGS["byte"])
    second.eos_token, second.sep_token = first.sep_token, first.eos_token
    assert fingerprint(first) != fingerprint(second)


def byte_pairs(folder, **roles):
    """A byte-level BPE like GPT-2's, whose roles share tokens, saved with settings that cut and add tokens."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: n for n, symbol in enumerate([*symbols, "he", "hel", "<|endoftext|>"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("h", "e"), ("he", "l")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    end = vocabulary["<|endoftext|>"]
    backend.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", end)])
    backend.enable_truncation(4)
    backend.enable_padding(length=4)
    PreTrainedTokenizerFast(tokenizer_object=backend, **roles).save_pretrained(folder)
    return end


@pytest.fixture
def pretrained(tmp_path):
    end = byte_pairs(tmp_path, eos_token="<|endoftext|>", bos_token="<|endoftext|>", unk_token="<|endoftext|>")
    return build(TokenizerConfig(kind="pretrained", name=str(tmp_path))), end


def test_missing_roles_are_appended_in_the_canonical_order_and_eos_keeps_its_id(pretrained):
    tokenizer, end = pretrained
    assert Specials.of(tokenizer) == Specials(
        pad=end + 1, cls=end + 2, mask=end + 3, eos=end, bos=end + 4, sep=end + 5, unk=end + 6
    )
    assert len(tokenizer) == end + 7


def test_eos_keeps_its_id_even_from_a_role_that_comes_before_it(tmp_path):
    end = byte_pairs(tmp_path, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    specials = Specials.of(build(TokenizerConfig(kind="pretrained", name=str(tmp_path))))
    assert (specials.eos, specials.pad) == (end, end + 1)


def test_pretrained_tokenizers_neither_cut_nor_add(pretrained):
    tokenizer, end = pretrained
    (ids,) = encode(tokenizer, ["hello<|endoftext|>[MASK]"])
    assert tokenizer.convert_ids_to_tokens(ids)[:3] == ["hel", "l", "o"]
    assert max(ids) < end
    assert tokenizer.decode(ids) == "hello<|endoftext|>[MASK]"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (TokenizerConfig(kind="bytes"), "pretrained, numbers, words, byte, char"),
        (TokenizerConfig(kind="numbers"), "tokenizer.size"),
        (TokenizerConfig(kind="pretrained"), "tokenizer.name"),
        (TokenizerConfig(kind="words", words=["a", "b", "a"]), "twice"),
        (TokenizerConfig(kind="words", words=["a b"]), "no spaces"),
        (TokenizerConfig(kind="words", words=["[MASK]"]), "[MASK]"),
    ],
)
def test_slips_in_the_config_are_named(config, words):
    with pytest.raises(ConfigError) as caught:
        build(config)
    assert words in caught.value.message + caught.value.hint


def test_what_cannot_be_read_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        load(tmp_path)
    with pytest.raises(DataError) as caught:
        build(TokenizerConfig(kind="pretrained", name=str(tmp_path)))
    assert "tokenizer.name" in caught.value.hint
    with pytest.raises(DataError, match="missing"):
        build(TokenizerConfig(kind="char", path=str(tmp_path / "missing.txt")))


def test_without_network_the_hub_is_given_up_at_once(monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(offline, "resolvable", lambda url: False)
    monkeypatch.setattr("socket.getaddrinfo", never)
    with pytest.raises(DataError) as caught:
        build(TokenizerConfig(kind="pretrained", name="nobody-here/no-such-tokenizer"))
    assert "local folder" in caught.value.hint


def test_roles_are_those_of_the_canvas():
    assert tuple(Specials.__dataclass_fields__) == ROLES
