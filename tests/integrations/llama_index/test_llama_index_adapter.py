"""The adapter against the encoder it stands for, and LlamaIndex's traps."""

import asyncio
import copy
import json
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import ValidationError

from echo_embeddings import (
    ConfigError,
    EchoConfig,
    EchoEncoder,
    EncoderOptions,
    ModelError,
    Template,
    TruncationWarning,
)
from llama_index.embeddings.echo import EchoEmbedding
from tests.conftest import cosines

ROLES = EchoConfig("{text}\n{text}", Template("{instruction}: {text}\nAgain: {text}", instruction="Answer"))
QUERY = "When does the boat\nto the island leave?"


class Fake:
    """The smallest embedder there can be: each vector says which role, text and instruction made it."""

    dimension = 3

    def __init__(self, delay=0.0):
        self.calls, self.delay = [], delay

    def encode_documents(self, texts):
        return self._encode(texts, 0.0)

    def encode_queries(self, texts, *, instruction=None):
        return self._encode(texts, 1.0 + len(instruction or ""))

    def _encode(self, texts, role):
        self.calls.append(list(texts))
        time.sleep(self.delay)
        return np.array([[role, len(text), sum(map(ord, text))] for text in texts], dtype=np.float32).reshape(-1, 3)


@pytest.fixture
def embedding(builtin_encoder):
    return EchoEmbedding(encoder=builtin_encoder)


# --- vectors -------------------------------------------------------------------------------------------------------


def test_class():
    assert issubclass(EchoEmbedding, BaseEmbedding)
    assert EchoEmbedding.class_name() == "EchoEmbedding"
    assert EchoEmbedding().embed_batch_size == 1024


def test_vectors_are_the_encoders(embedding, builtin_encoder, texts):
    documents = builtin_encoder.encode_documents(texts).tolist()
    assert embedding.get_query_embedding(QUERY) == builtin_encoder.encode_queries([QUERY])[0].tolist()
    assert embedding.get_text_embedding_batch(texts) == documents
    assert embedding.get_text_embedding(texts[0]) == builtin_encoder.encode_documents(texts[:1])[0].tolist()
    assert embedding.get_text_embedding_batch([]) == []
    assert type(embedding.get_query_embedding(QUERY)[0]) is float


def test_no_argument_is_the_builtin_model(builtin_encoder):
    default = EchoEmbedding()
    assert default.model_name == "SmolLM2-135M-Instruct"
    assert default.get_query_embedding(QUERY) == builtin_encoder.encode_queries([QUERY])[0].tolist()


def test_roles_are_kept(asymmetric_encoder):
    embedding = EchoEmbedding(encoder=asymmetric_encoder)
    query = asymmetric_encoder.encode_queries([QUERY])[0].tolist()
    document = asymmetric_encoder.encode_documents([QUERY])[0].tolist()
    assert query != document
    assert embedding.get_query_embedding(QUERY) == query
    assert embedding.get_agg_embedding_from_queries([QUERY]) == pytest.approx(query)
    assert embedding.get_text_embedding(QUERY) == document
    assert asyncio.run(embedding.aget_query_embedding(QUERY)) == query
    assert asyncio.run(embedding.aget_text_embedding(QUERY)) == document
    assert asyncio.run(embedding.aget_text_embedding_batch([QUERY])) == [document]


def test_instruction_goes_to_queries_alone():
    embedding = EchoEmbedding(encoder=Fake(), query_instruction="abc")
    assert embedding.get_query_embedding("x") == [4.0, 1.0, 120.0]
    assert embedding.get_text_embedding("x") == [0.0, 1.0, 120.0]


def test_dimensions(builtin_encoder):
    short = EchoEmbedding(dimensions=256)
    whole = np.array(builtin_encoder.encode_queries([QUERY])[0][:256])
    np.testing.assert_allclose(short.get_query_embedding(QUERY), whole / np.linalg.norm(whole), atol=2e-3)


# --- async, threads, copies ----------------------------------------------------------------------------------------


def test_async_equals_sync(float32_encoder, texts):
    embedding = EchoEmbedding(encoder=float32_encoder)

    async def all_at_once(embed):
        return await asyncio.gather(*map(embed, texts))

    # Together means other batches; in bfloat16 that is seen in the fourth digit of a cosine.
    queries = np.array([embedding.get_query_embedding(text) for text in texts])
    assert cosines(np.array(asyncio.run(all_at_once(embedding.aget_query_embedding))), queries).min() > 0.999999
    documents = np.array(embedding.get_text_embedding_batch(texts))
    assert cosines(np.array(asyncio.run(all_at_once(embedding.aget_text_embedding))), documents).min() > 0.999999
    assert asyncio.run(embedding.aget_text_embedding_batch(texts)) == documents.tolist()


def test_workers_and_small_batches(float32_encoder, texts):
    embedding = EchoEmbedding(encoder=float32_encoder, embed_batch_size=2, num_workers=3)
    expected = float32_encoder.encode_documents(texts)
    assert cosines(np.array(asyncio.run(embedding.aget_text_embedding_batch(texts))), expected).min() > 0.999999


def test_concurrent_texts_share_batches_and_do_not_block():
    fake = Fake(delay=0.1)
    embedding = EchoEmbedding(encoder=fake)

    async def ask():
        asked = [embedding.aget_query_embedding(str(i)) for i in range(25)]
        asked += [embedding.aget_text_embedding(str(i)) for i in range(25)]
        tasks, ticks = [asyncio.create_task(one) for one in asked], 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.005)
            ticks += 1
        return await asyncio.gather(*tasks), ticks

    vectors, ticks = asyncio.run(ask())
    plain = EchoEmbedding(encoder=Fake())
    assert vectors[:25] == [plain.get_query_embedding(str(i)) for i in range(25)]
    assert vectors[25:] == [plain.get_text_embedding(str(i)) for i in range(25)]
    assert len(fake.calls) <= 6
    assert ticks >= 10


def test_eight_threads(embedding, texts):
    expected = [embedding.get_query_embedding(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(embedding.get_query_embedding, texts)) == expected


def test_pickle_and_copies(builtin_encoder):
    for embedding in (EchoEmbedding(dimensions=256), EchoEmbedding(encoder=builtin_encoder)):
        vector = embedding.get_query_embedding("x")
        again = pickle.loads(pickle.dumps(embedding))
        assert len(pickle.dumps(embedding)) < 2_000_000  # the config is there; weights (270 MB) are not
        assert again.get_query_embedding("x") == vector
        assert again.to_dict() == embedding.to_dict()
        assert copy.deepcopy(embedding).get_query_embedding("x") == vector


def test_a_loaded_model_is_not_pickled_in_silence(builtin_folder):
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(builtin_folder)
    encoder = EchoEncoder(model, tokenizer=AutoTokenizer.from_pretrained(builtin_folder))
    with pytest.raises(pickle.PicklingError, match="use save_pretrained"):
        pickle.dumps(EchoEmbedding(encoder=encoder))


def test_construction_is_quick_and_loads_nothing():
    code = (
        "import sys, time\nfrom llama_index.embeddings.echo import EchoEmbedding\n"
        "start = time.perf_counter()\nEchoEmbedding(model_name='some/model', dimensions=64)\n"
        "print((time.perf_counter() - start) * 1000, 'torch' in sys.modules, 'langchain_core' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    milliseconds, torch, langchain = done.stdout.split()
    assert float(milliseconds) < 50
    assert (torch, langchain) == ("False", "False")


# --- caches and serialisation --------------------------------------------------------------------------------------


def test_to_dict_differs_with_all_that_defines_a_vector(asymmetric_encoder):
    objects = [
        EchoEmbedding(),
        EchoEmbedding(config="echo"),
        EchoEmbedding(config=EchoConfig.preset("echo").replace(max_length=99)),
        EchoEmbedding(model_name="some/model", config="echo"),
        EchoEmbedding(dimensions=64),
        EchoEmbedding(dtype="float32"),
        EchoEmbedding(adapter="some/adapter"),
        EchoEmbedding(model_name="some/model", config="echo", model_kwargs={"revision": "1"}),
        EchoEmbedding(config=ROLES, query_instruction="Find it"),
        EchoEmbedding(config=ROLES),
        EchoEmbedding(encoder=asymmetric_encoder),
        EchoEmbedding(encoder=EchoEncoder(dtype="float16")),
        EchoEmbedding(encoder=EchoEncoder(adapter="other/adapter")),
    ]
    assert len({str(embedding.to_dict()) for embedding in objects}) == len(objects)
    assert EchoEmbedding().to_dict() == EchoEmbedding().to_dict()


def test_to_dict_sees_a_config_saved_with_the_model(tmp_path):
    EchoConfig.preset("echo").save(tmp_path)
    before = EchoEmbedding(model_name=str(tmp_path)).to_dict()
    EchoConfig.preset("late-echo").save(tmp_path)
    assert EchoEmbedding(model_name=str(tmp_path)).to_dict() != before


def test_from_dict_takes_what_to_dict_gave():
    embedding = EchoEmbedding(config="echo-finetuned", dimensions=64, query_instruction="Find it")
    assert EchoEmbedding.from_dict(embedding.to_dict()).to_dict() == embedding.to_dict()
    assert json.loads(embedding.to_json())["config"] == "echo-finetuned"


@pytest.mark.skipif(not hasattr(BaseEmbedding, "to_payload"), reason="this llama-index calls to_dict for every text")
def test_to_dict_of_an_unknown_embedder():
    with pytest.raises(ValueError, match="nothing tells one Fake from another.*turn the cache off"):
        EchoEmbedding(encoder=Fake()).to_dict()


def test_shared_cache_only_if_roles_share_vectors(builtin_encoder, asymmetric_encoder):
    store = SimpleKVStore()
    same = builtin_encoder.with_config(builtin_encoder.config.replace(query_template=None, lexical=None))
    cached = EchoEmbedding(encoder=same, embeddings_cache=store)
    assert cached.get_text_embedding_batch([QUERY])[0] == cached.get_query_embedding(QUERY)
    assert list(store.get_all("embeddings")) == [QUERY]
    for fields in (
        {},
        {"encoder": asymmetric_encoder},
        {"encoder": Fake()},
        {"config": ROLES, "query_instruction": "Find it"},
    ):
        with pytest.raises(ValidationError, match="embeddings_cache would give queries the vectors of documents"):
            EchoEmbedding(embeddings_cache=SimpleKVStore(), **fields)
    with pytest.raises(ValidationError, match="Field is frozen"):
        EchoEmbedding(encoder=asymmetric_encoder).embeddings_cache = store


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "mean"}, r"pooling\s+Extra inputs are not permitted"),
        ({"model_name": 3}, r"model_name\s+Input should be a valid string"),
        ({"config": 3}, r"config\S*\s+Input should be an instance of EchoConfig"),
        ({"config": "ecko"}, "there is no preset 'ecko'; choose one of default, zero-shot, any-model, echo"),
        ({"on_truncate": "cry"}, "on_truncate='cry' is unknown; choose one of warn"),
        ({"dimensions": 0}, r"dimensions\s+Input should be greater than 0"),
        ({"embed_batch_size": 0}, r"embed_batch_size\s+Input should be greater than 0"),
        ({"cache_folder": "elsewhere"}, "cache_folder is for models from a hub"),
        ({"encoder": "some/model"}, "encoder is a str, which has no encode_documents"),
        ({"encoder": Fake(), "config": "echo"}, "config is settled by the encoder that was given"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValidationError, match=message):
        EchoEmbedding(**fields)


HARMLESS = [
    {"model_kwargs": {"device": "cpu"}, "normalize": True, "trust_remote_code": False},
    {"text_instruction": None, "query_instruction": None, "cache_folder": None, "max_length": None},
    {"parallel_process": False, "target_devices": None, "show_progress_bar": False, "embed_batch_size": 10},
    {"tokenizer_name": "deprecated", "pooling": "deprecated", "model": "deprecated", "tokenizer": "deprecated"},
    {"text_instruction": "", "query_instruction": "", "device": None, "num_workers": None, "backend": "torch"},
]


@pytest.mark.parametrize("fields", HARMLESS, ids=str)
def test_what_is_harmless_in_the_frameworks_other_class_is_accepted(builtin_encoder, fields):
    embedding = EchoEmbedding(config=builtin_encoder.config, **fields)
    assert embedding.to_dict()["vectors"] == EchoEmbedding(config=builtin_encoder.config).to_dict()["vectors"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"normalize": False}, r"normalize\s+Extra inputs are not permitted; vectors always have unit length"),
        ({"text_instruction": "passage: "}, r"words before every text .*templates\[0\]\.prompted"),
        ({"trust_remote_code": True}, r"from_pretrained: model_kwargs=\{'trust_remote_code': True\}"),
        ({"parallel_process": True}, r"give devices=\['cuda:0', 'cuda:1'\] or devices=\['cpu', 'cpu'\]"),
        ({"target_devices": ["cpu"]}, r"target_devices\s+Extra .* give devices="),
        ({"pooling": "mean"}, r"pooling\s+Extra inputs are not permitted; pooling is part of the config"),
        ({"tokenizer_name": "gpt2"}, r"encoder=EchoEncoder\(model, tokenizer=tokenizer\)"),
        ({"model": "some/model"}, "give model_name= for a name, or encoder=EchoEncoder"),
        ({"revision": "abc"}, r"model_kwargs=\{'revision': 'abc'\}"),
        ({"torch_dtype": "float32"}, "give dtype="),
        ({"max_seq_length": 9}, "give max_length="),
        ({"prompts": {"query": "a"}}, "words before every text are part of the config"),
        ({"model_kwargs": {"device": "cpu"}, "device": "cuda"}, "give one of them"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do_instead(fields, message):
    with pytest.raises(ValidationError, match=message):
        EchoEmbedding(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query_instruction": "Find it"}, "instruction 'Find it' was given, but template .* has no {instruction}"),
        ({"config": EchoConfig("{text}", "{instruction} {text}")}, "needs an instruction; pass query_instruction="),
        ({"config": EchoConfig("{instruction} {text}")}, "document template .* needs an instruction"),
        ({"dimensions": 5000}, "cannot keep 5000 of 1024 dimensions"),
    ],
)
def test_what_cannot_work_is_said_at_construction(fields, message):
    with pytest.raises(ConfigError, match=message):
        EchoEmbedding(**fields)


def test_show_progress_bar(builtin_encoder, capfd):
    EchoEmbedding(encoder=builtin_encoder, show_progress_bar=True).get_text_embedding_batch(["a text"])
    assert "embedding" in capfd.readouterr().err


def test_fields_that_define_a_vector_cannot_be_changed():
    embedding = EchoEmbedding()
    embedding.embed_batch_size = 7
    with pytest.raises(ValidationError, match="Field is frozen"):
        embedding.config = "echo"


BATCHES = {
    "documents": EchoEmbedding.get_text_embedding_batch,
    "documents awaited": lambda embedding, texts: asyncio.run(embedding.aget_text_embedding_batch(texts)),
    "queries": EchoEmbedding.get_agg_embedding_from_queries,
    "queries awaited": lambda embedding, texts: asyncio.run(embedding.aget_agg_embedding_from_queries(texts)),
}


@pytest.mark.parametrize("name", BATCHES)
def test_columns_are_taken_and_other_containers_refused(name):
    embed, embedding = BATCHES[name], EchoEmbedding(encoder=Fake())
    assert embed(embedding, pd.Series(["a", "bb"], index=[1, 0])) == embed(embedding, ["a", "bb"])
    for texts in ("ab", pd.DataFrame({"text": ["a"]}), {"a": "b"}, {"a", "b"}, (text for text in "ab"), None):
        kind = "one string" if isinstance(texts, str) else type(texts).__name__
        with pytest.raises(TypeError, match=f"texts must be .* not {kind}; "):
            embed(embedding, texts)


def test_bad_texts(embedding):
    with pytest.raises(TypeError, match=r"texts\[1\] is NoneType"):
        embedding.get_text_embedding_batch(["a", None])
    with pytest.raises(TypeError, match=r"texts\[0\] is int \(3\), not a string"):
        embedding._get_query_embedding(3)


def test_unknown_model():
    with pytest.raises(ModelError, match="model 'no-such/model' could not be loaded"):
        EchoEmbedding(model_name="no-such/model").get_query_embedding("x")


def test_folder_from_a_newer_version(tmp_path):
    (tmp_path / "echo_config.json").write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(ConfigError, match="newer echo-embeddings; update it, from a newer checkout: "):
        EchoEmbedding(model_name=str(tmp_path)).get_query_embedding("x")


def test_missing_package(builtin_folder, monkeypatch, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "use_dora": true}')
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"from a checkout: .*pip install '\.\[peft\]'"):
        EchoEmbedding(adapter=str(tmp_path)).get_query_embedding("x")


def test_every_option_of_an_encoder_is_a_field():
    assert EncoderOptions.names() - {"model"} <= set(EchoEmbedding.model_fields)


@pytest.mark.parametrize("name", BATCHES)
def test_what_is_truncated_is_said_once_a_call(builtin_folder, name):
    encoder = EchoEncoder(model=None, config="late-echo", max_length=4)
    embedding = EchoEmbedding(encoder=encoder, embed_batch_size=2)
    for _ in range(2):
        with pytest.warns(TruncationWarning, match=r"3 text\(s\) were truncated to max_length=4 tokens") as seen:
            BATCHES[name](embedding, ["one two three four five", "short"] * 3)
        assert len(seen) == 1
