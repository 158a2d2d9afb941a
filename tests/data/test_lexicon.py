import re
import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from xlm_core.config import TokenizerConfig
from xlm_core.data import lexicon, tokenizers
from xlm_core.data.lexicon import Lexicon, lexicon_of, words_of

CORPUS = ["the cat's hat is 12 inches, the dog's 3; été À côté  of\tthe house\n\nthe end ... don't"] * 3
SIGNS = st.sampled_from(
    [*"aé Te1,'\t\n \u00a0\u2003\u3000\u0301\u02d8\u0130中🎉\x00-", "the", " the", "'s", "  ", " 12", "[MASK]"]
)
TEXTS = st.lists(st.lists(SIGNS, max_size=12).map("".join), max_size=6)


def trained(model, trainer, pre_tokenizer, normalizer=None):
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.train_from_iterator(CORPUS, trainer(vocab_size=320, show_progress=False, special_tokens=["[UNK]", "[MASK]"]))
    backend.encode_special_tokens = True
    return backend


def bpe(pre_tokenizer, normalizer=None, **options):
    return trained(models.BPE(unk_token="[UNK]", **options), trainers.BpeTrainer, pre_tokenizer, normalizer)


def built(**config):
    return tokenizers.build(TokenizerConfig(**config)).backend_tokenizer


BY_WORDS = {
    "byte": built(kind="byte"),
    "char": built(kind="char"),
    "words": built(kind="words", words=["the", "cat", "a", "é"]),
    "gpt2": bpe(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "roberta": bpe(pre_tokenizers.ByteLevel(add_prefix_space=True), normalizers.NFC()),
    "digits": bpe(pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.Digits(True)])),
    "bert": trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer,
        pre_tokenizers.BertPreTokenizer(),
        normalizers.BertNormalizer(),
    ),
    "compatible": bpe(
        pre_tokenizers.Whitespace(), normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), fuse_unk=True
    ),
}
AS_A_WHOLE = {
    "merges across spaces": bpe(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)),
    "a pattern of its own": bpe(pre_tokenizers.Split(Regex(r"\w+ \w+"), "isolated")),
    "spaces made by a normalizer": bpe(pre_tokenizers.ByteLevel(), normalizers.NFKC()),
    "spaces lost in a normalizer": bpe(pre_tokenizers.Whitespace(), normalizers.Replace(" ", "")),
    "the start is marked": bpe(pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Metaspace()])),
    "chance": bpe(pre_tokenizers.ByteLevel(), dropout=0.5),
    "unigrams": trained(models.Unigram(), trainers.UnigramTrainer, pre_tokenizers.Whitespace()),
    "joined unknowns": Tokenizer(models.BPE({"[UNK]": 0, "a": 1}, [], unk_token="[UNK]", fuse_unk=True)),
}
LEXICONS = {name: Lexicon(backend) for name, backend in BY_WORDS.items()}


def plain(backend, texts):
    return [encoding.ids for encoding in backend.encode_batch(texts, add_special_tokens=False)]


@pytest.mark.parametrize("name", BY_WORDS)
@given(texts=TEXTS)
def test_the_ids_are_those_of_the_whole_texts(name, texts):
    backend = BY_WORDS[name]
    assert LEXICONS[name].encode(texts) == plain(backend, texts)


@pytest.mark.parametrize("name", BY_WORDS)
def test_words_are_looked_up_where_a_tokenizer_cuts_before_them(name):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=BY_WORDS[name], mask_token="[MASK]")
    assert lexicon_of(tokenizer) is not None
    assert lexicon_of(tokenizer) is lexicon_of(tokenizer)


@pytest.mark.parametrize("name", AS_A_WHOLE)
def test_other_tokenizers_are_given_the_whole_text(name):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=AS_A_WHOLE[name], mask_token="[MASK]")
    assert lexicon_of(tokenizer) is None


def test_the_danger_is_real():
    backend = AS_A_WHOLE["merges across spaces"]
    assert Lexicon(backend).encode(CORPUS) != plain(backend, CORPUS)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="[MASK]")
    assert tokenizers.encode(tokenizer, CORPUS * 50) == plain(backend, CORPUS * 50)


@given(TEXTS)
def test_the_words_are_the_text_cut_before_spaces_that_something_visible_follows(texts):
    words, edges = words_of(texts)
    found = words.to_pylist()
    cut = [re.split(r"(?= [!-~éİ\u0301\u02d8中🎉])", text) for text in texts]
    assert [found[start:stop] for start, stop in pairwise(edges)] == [[word for word in words if word] for words in cut]


@pytest.mark.parametrize("texts", [["a", None], ["a", 1]])
def test_what_is_no_text_is_refused(texts):
    with pytest.raises(TypeError):
        words_of(texts)


class Counted:
    """A backend of which it is known what it was given."""

    def __init__(self):
        self.given = []

    def encode_batch_fast(self, texts, add_special_tokens):
        assert not add_special_tokens
        self.given.append(list(texts))
        return [SimpleNamespace(ids=list(text.encode())) for text in texts]


def test_a_word_is_tokenized_once():
    backend = Counted()
    words = Lexicon(backend)
    assert words.encode(["a b", "b a b"]) == [list(b"a b"), list(b"b a b")]
    assert words.encode([" b a c", "a"]) == [list(b" b a c"), list(b"a")]
    assert backend.given == [["a", " b", "b", " a"], [" c"]]


def test_a_lexicon_is_not_larger_than_it_may_be(monkeypatch):
    monkeypatch.setattr(lexicon, "KEPT_IDS", 100)
    words = Lexicon(Counted())
    for n in range(100):
        text = " ".join(f"{n}.{word}" for word in range(10))
        assert words.encode([text, text]) == [list(text.encode())] * 2
        assert len(words._ids.values) <= 100 + 2 * len(text)
        assert len(words._numbers) == len(words._ids)


def test_a_token_that_is_added_later_is_read():
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"))
    texts = ["a cat sat"] * 100
    before = tokenizers.encode(tokenizer, texts)
    assert before == [[7 + byte for byte in b"a cat sat"]] * 100
    tokenizer.add_tokens([AddedToken("cat", normalized=False)])
    assert tokenizers.encode(tokenizer, texts) == [[104, 39, 263, 39, 122, 104, 123]] * 100


def test_many_texts_go_by_words(monkeypatch):
    monkeypatch.setattr(tokenizers, "lexicon_of", lambda tokenizer: Lexicon(Counted()))
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"))
    assert tokenizers.encode(tokenizer, ["a"] * 100) == [list(b"a")] * 100
    assert tokenizers.encode(tokenizer, ["a"] * 99) == [[7 + ord("a")]] * 99


def test_threads_do_not_share_words():
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"))
    found = [lexicon_of(tokenizer)]
    thread = threading.Thread(target=lambda: found.append(lexicon_of(tokenizer)))
    thread.start()
    thread.join()
    assert found[0] is not None
    assert found[1] is not None
    assert found[0] is not found[1]
