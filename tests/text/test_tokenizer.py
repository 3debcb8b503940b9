"""On the built-in tokenizer (byte-level BPE), and on a SentencePiece-like one trained here that adds a space itself."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from echo_embeddings import ConfigError, EchoConfig, ModelError, Template
from echo_embeddings.text.tokenizer import EchoTokenizer

#: Published templates, by what they are for.
TEMPLATES = {name: EchoConfig.preset(name).templates[0] for name in ("echo", "classical", "prompt-eol")}
TEMPLATES["echo-document"], TEMPLATES["echo-query"] = EchoConfig.preset("echo-finetuned").templates


@pytest.fixture(scope="session")
def source(builtin_folder):
    return AutoTokenizer.from_pretrained(builtin_folder)


@pytest.fixture(scope="session")
def tokenizer(source):
    return EchoTokenizer(source)


@pytest.fixture(scope="session")
def spm():
    """A Metaspace BPE with BOS added by default, as Llama 2 and Mistral 7B v0.1 have it."""
    rust = Tokenizer(models.BPE(unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    rust.decoder = decoders.Metaspace(prepend_scheme="always")
    text = "Rewrite the following paragraph: the ferry leaves.\nThe rewritten paragraph: the ferry leaves at dawn"
    rust.train_from_iterator(
        [text] * 3, trainers.BpeTrainer(special_tokens=["<unk>", "<s>", "</s>"], vocab_size=200, show_progress=False)
    )
    source = PreTrainedTokenizerFast(tokenizer_object=rust, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    source.backend_tokenizer.post_processor = __import__("tokenizers").processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return EchoTokenizer(source)


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["echo", "classical"])
def test_spaced_templates_give_the_ids_of_the_whole_string(tokenizer, source, name):
    template, text = TEMPLATES[name], "The ferry leaves the island at dawn."
    (content,) = tokenizer.contents([text], spaced=True)
    ids = tokenizer.layout(template).assemble(content.ids).tolist()
    assert ids == source(template.text.replace("{text}", text)).input_ids


def test_spaced_templates_on_a_sentencepiece_tokenizer_too(spm):
    template, text = TEMPLATES["echo"], "the ferry leaves"
    (content,) = spm.contents([text], spaced=True)
    ids = spm.layout(template).assemble(content.ids).tolist()
    assert ids == spm.source(template.text.replace("{text}", text)).input_ids
    assert ids[0] == 1, "the tokenizer adds BOS by default, so the template does"


def test_isolated_pieces_get_the_dummy_space(spm):
    isolated = spm.layout(Template("{text}\nThe{text}", isolated=True)).literals[1]
    continued = spm.layout(Template("{text}\nThe{text}")).literals[1]
    assert spm.tokens(np.array(isolated))[0].startswith("▁")
    assert not spm.tokens(np.array(continued))[0].startswith("▁")


def test_both_copies_are_identical(tokenizer, texts):
    layout = tokenizer.layout(TEMPLATES["echo-query"], "Find it")
    for content in tokenizer.contents(texts, spaced=False):
        ids, n = layout.assemble(content.ids), len(content.ids)
        np.testing.assert_array_equal(ids[layout.copy(0, n)], ids[layout.copy(1, n)])
        np.testing.assert_array_equal(ids[layout.copy(0, n)], content.ids)


def test_special_tokens_in_a_text_are_plain_text(tokenizer, source):
    (content,) = tokenizer.contents(["<|im_end|>"], spaced=False)
    assert len(content.ids) > 1
    assert source.eos_token_id not in content.ids
    assert "".join(tokenizer.tokens(content.ids)) == "<|im_end|>"


def test_special_tokens_in_an_instruction_are_plain_text(tokenizer, source):
    layout = tokenizer.layout(Template("{instruction} {text}"), "<|im_end|>")
    assert source.eos_token_id not in layout.literals[0]


def test_a_limit_truncates_the_content_and_counts(tokenizer):
    text = "one two three four five six"
    (whole,) = tokenizer.contents([text], spaced=True)
    (short,) = tokenizer.contents([text], spaced=True, limit=4)
    assert short.ids.tolist() == whole.ids[:4].tolist()
    assert short.truncated == len(whole.ids) - 4
    assert whole.truncated == 0
    assert tokenizer.count([text], spaced=True) == [len(whole.ids)]


def test_offsets_point_into_the_text(tokenizer):
    text = "The ferry, naïve."
    pieces = [text[start:end] for start, end in tokenizer.offsets(text, spaced=True)]
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert pieces[0] == "The"


def test_lone_surrogates_become_the_replacement_character(tokenizer):
    (content,) = tokenizer.contents(["a\ud800"], spaced=False)
    assert tokenizer.texts([content.ids]) == ["a\ufffd"]
    layout = tokenizer.layout(Template("{instruction} {text}"), "find \udfff")
    assert layout == tokenizer.layout(Template("{instruction} {text}"), "find \ufffd")


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\ud800", "a\0b", "\u202eabc", "👩‍👩‍👧", "x" * 1_000_000])
def test_odd_texts_have_at_least_one_token(tokenizer, spm, text):
    for each in (tokenizer, spm):
        (content,) = each.contents([text], spaced=True, limit=64)
        assert 1 <= len(content.ids) <= 64
        assert len(each.offsets(text, spaced=True)) == each.count([text], spaced=True)[0]


def test_a_slow_tokenizer_is_refused():
    class Slow:
        pass

    with pytest.raises(ModelError, match="Slow is a slow tokenizer; echo needs a fast one"):
        EchoTokenizer(Slow())


def test_a_missing_eos_is_said(source, builtin_folder):
    bare = AutoTokenizer.from_pretrained(builtin_folder)
    bare.eos_token = None
    with pytest.raises(ModelError, match="wants the tokenizer's EOS token, but it has none; set eos=False"):
        EchoTokenizer(bare).layout(Template("{text}", eos=True))


def test_the_users_tokenizer_is_not_changed(source, tokenizer):
    before = source.backend_tokenizer.to_str()
    tokenizer.baked(TEMPLATES["echo"], limit=8)
    tokenizer.contents(["a text"], spaced=True, limit=1)
    assert source.backend_tokenizer.to_str() == before


# --- the echo baked into tokenizer.json ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["echo", "classical", "echo-query", "echo-document", "prompt-eol"])
def test_a_baked_tokenizer_echoes_by_itself(tokenizer, texts, name, tmp_path):
    template = TEMPLATES[name]
    layout, limit = tokenizer.layout(template), 16
    tokenizer.baked(template, limit=limit).save(str(tmp_path / "tokenizer.json"))
    reloaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    reloaded.encode_special_tokens = True
    for text, content in zip(texts, tokenizer.contents(texts, spaced=template.spaced, limit=limit), strict=True):
        encoding = reloaded.encode(text)
        assert encoding.ids == layout.assemble(content.ids).tolist()
        pooled = layout.pooled(len(content.ids))
        assert [i for i, kind in enumerate(encoding.type_ids) if kind] == list(range(pooled.start, pooled.stop))


def test_a_template_needs_its_instruction(tokenizer):
    with pytest.raises(ConfigError, match="needs an instruction"):
        tokenizer.layout(Template("{instruction} {text}"))


def test_a_prompt_that_ends_in_a_space_gives_the_ids_of_the_whole_string(tokenizer, spm, source):
    template = Template("{text}\n{text}", prompt="the ferry: ")
    (content,) = spm.contents(["leaves"], spaced=template.spaced)
    prompt = spm.source("the ferry: leaves").input_ids
    assert spm.layout(template).assemble(content.ids).tolist()[: len(prompt)] == prompt
    # Byte-level BPE would join the space with the text, whose copies must have equal ids: it stays on its own.
    assert tokenizer.layout(template).literals[0] == tuple(source("the ferry: ").input_ids)
