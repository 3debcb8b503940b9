"""Every prompt that sentence-transformers takes works with every preset, in a call, by name, and saved with a model."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder
from echo_embeddings.config import presets
from echo_embeddings.search import Index
from sentence_transformers_echo import from_encoder, load
from tests.conftest import cosines

PROMPTS = {
    "plain": "query:",
    "space": "query: ",
    "spaces": "query:  ",
    "only a space": " ",
    "newline": "Instruct: find the answer\nQuery:\n",
    "e5": "Instruct: Given a question, retrieve passages that answer it\nQuery: ",
    "nomic": "search_query: ",
    "braces": "{text} {0} {{x}} }{ ",
    "special tokens": "<|im_start|>user\n",
    "unicode": "检索: ",
    "surrogate": "\ud800 ",
    "empty": "",
}
# Fitted parts need the model that they were fitted for; the prompt stands in the same templates without them.
CONFIGS = {
    name: config.replace(
        transforms=(),
        packaged_adapter=None,
        start_layer=0.5 if config.start_layer else 0,
        exit_layer=None,
        lexical=None,
    )
    for name, config in ((name, EchoConfig.preset(name)) for name in presets.names())
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_prompt_with_every_preset(tiny_encoder, name):
    encoder = tiny_encoder(CONFIGS[name])
    model = from_encoder(encoder)
    plain = model.encode(["a text"])
    for prompt in PROMPTS.values():
        for encode, role in ((model.encode_document, 0), (model.encode_query, 1)):
            vectors = encode(["a text", "another"], prompt=prompt)
            assert np.isfinite(vectors).all()
            if prompt:
                config = encoder.config
                prompted = [one.prompted(prompt) for one in config.templates]
                expected = encoder.with_config(config.replace(template=prompted[0], query_template=prompted[1]))
                embed = (expected.encode_documents, expected.encode_queries)[role]
                assert cosines(vectors, embed(["a text", "another"])).min() > 0.99999
                if prompt.strip() and role == 0:
                    assert cosines(vectors[:1], plain).max() < 0.9999


def test_the_built_in_model_takes_the_commonest_prompt(builtin_encoder):
    model = from_encoder(builtin_encoder)
    query = model.encode_query(["When does the boat go?"], prompt="search_query: ")
    documents = model.encode_document(
        ["The ferry leaves the island at dawn.", "Bread rises faster in a warm room."], prompt="search_document: "
    )
    assert query @ documents[0] > query @ documents[1]


@pytest.mark.parametrize("name", ["default", "echo", "echo-finetuned", "prompt-eol"])
def test_prompts_are_saved_with_a_model_and_found_again(tiny_encoder, tmp_path, name):
    made = from_encoder(tiny_encoder(CONFIGS[name]))
    model = SentenceTransformer(
        modules=[made[0], Pooling(made[0].get_embedding_dimension(), made[1].pooling_mode), Normalize()],
        prompts=PROMPTS | {"query": "query: ", "document": "passage: "},
        default_prompt_name="braces",
    )
    model.save_pretrained(str(tmp_path))
    for loaded in (load(tmp_path), SentenceTransformer(str(tmp_path), trust_remote_code=True)):
        assert loaded.prompts == model.prompts
        for key in ("space", "newline", "special tokens", "empty"):
            vectors = loaded.encode(["a text"], prompt_name=key)
            assert cosines(vectors, model.encode(["a text"], prompt=PROMPTS[key])).min() > 0.99999
        assert cosines(loaded.encode_query(["a"]), model.encode_query(["a"], prompt="query: ")).min() > 0.99999
        assert cosines(loaded.encode(["a"]), model.encode(["a"], prompt=PROMPTS["braces"])).min() > 0.99999


@pytest.mark.parametrize(
    ("name", "prompts", "default"),
    [
        ("echo", {"query": "query: ", "document": "passage: "}, None),
        ("echo-finetuned", {"query": "Instruct: find\nQuery: "}, None),
        ("late-echo", {"query": "", "document": "b: ", "other": "c: "}, "other"),
    ],
)
def test_an_encoder_takes_the_prompts_that_are_saved_with_a_model(tiny_encoder, tmp_path, name, prompts, default):
    model = from_encoder(tiny_encoder(CONFIGS[name]))
    model.prompts |= prompts
    model.default_prompt_name = default
    model.save_pretrained(str(tmp_path / "st"))
    encoder, texts = EchoEncoder(tmp_path / "st"), ["a text", "another"]
    encoder.save_pretrained(tmp_path / "ours")
    index = Index.build(texts, encoder)
    index.save(tmp_path / "index")
    for same in (encoder, EchoEncoder(tmp_path / "ours"), Index.load(tmp_path / "index").encoder):
        assert cosines(same.encode_documents(texts), model.encode_document(texts)).min() > 0.99999
        assert cosines(same.encode_queries(texts), model.encode_query(texts)).min() > 0.99999
    again = load(tmp_path / "ours")
    assert cosines(again.encode_query(texts), model.encode_query(texts)).min() > 0.99999


def test_a_model_without_prompts_keeps_its_config(tiny_encoder, tmp_path):
    config = CONFIGS["echo"]
    from_encoder(tiny_encoder(config)).save_pretrained(str(tmp_path))
    assert EchoEncoder(tmp_path).config.templates == config.templates
    assert EchoEncoder(tmp_path).config.query_template is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompts": ["query: "]}, r"prompts=\['query: '\]: give texts by name"),
        ({"prompts": {"query": 3}}, r"prompts=\{'query': 3\}: give texts by name"),
        ({"default_prompt_name": "x"}, r"default_prompt_name='x' is none of its prompts \('query'\)"),
        ({"default_prompt_name": ["query"]}, r"default_prompt_name=\['query'\] is none of its prompts"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused_by_file_and_field(tmp_path, fields, message):
    EchoConfig.preset("echo").save(tmp_path)
    file = tmp_path / "config_sentence_transformers.json"
    file.write_text(json.dumps({"prompts": {"query": "query: "}} | fields))
    with pytest.raises(ConfigError, match=rf"{file}: {message}"):
        _ = EchoEncoder(tmp_path).config


def test_a_prompt_that_is_no_string_is_refused(tiny_encoder):
    with pytest.raises(ValueError, match="prompt must be a string, not int"):
        from_encoder(tiny_encoder()).encode(["a"], prompt=3)
