"""The adapter against the encoder it stands for; the framework's own suite is in test_langchain_standard.py."""

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
from pydantic import ValidationError

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, EncoderOptions, ModelError, TruncationWarning
from langchain_echo_embeddings import EchoEmbeddings
from tests.conftest import cosines

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
        if "bad" in texts:
            raise ValueError("the text 'bad' cannot be read")
        self.calls.append(list(texts))
        time.sleep(self.delay)
        return np.array([[role, len(text), sum(map(ord, text))] for text in texts], dtype=np.float32).reshape(-1, 3)


@pytest.fixture
def embeddings(builtin_encoder):
    return EchoEmbeddings(encoder=builtin_encoder)


# --- vectors -------------------------------------------------------------------------------------------------------


def test_vectors_are_the_encoders(embeddings, builtin_encoder, texts):
    assert embeddings.embed_query(QUERY) == builtin_encoder.encode_queries([QUERY])[0].tolist()
    assert embeddings.embed_documents(texts) == builtin_encoder.encode_documents(texts).tolist()
    assert embeddings.embed_documents([]) == []
    assert type(embeddings.embed_query(QUERY)[0]) is float


def test_no_argument_is_the_builtin_model(builtin_encoder):
    default = EchoEmbeddings()
    assert default.model_name == "SmolLM2-135M-Instruct"
    assert default.embed_query(QUERY) == builtin_encoder.encode_queries([QUERY])[0].tolist()


def test_roles_are_kept(asymmetric_encoder, texts):
    embeddings = EchoEmbeddings(encoder=asymmetric_encoder)
    (document,) = embeddings.embed_documents([QUERY])
    query = embeddings.embed_query(QUERY)
    assert query == asymmetric_encoder.encode_queries([QUERY])[0].tolist()
    assert document == asymmetric_encoder.encode_documents([QUERY])[0].tolist()
    assert query != document
    assert asyncio.run(embeddings.aembed_query(QUERY)) == query
    assert asyncio.run(embeddings.aembed_documents([QUERY])) == [document]


def test_newlines_and_spaces_reach_the_model(embeddings):
    a, b, c = embeddings.embed_documents(["two\nlines", "two lines", " two lines "])
    assert a != b != c


def test_instruction_goes_to_queries_alone():
    fake = Fake()
    by_field = EchoEmbeddings(encoder=fake, query_instruction="abc")
    by_kwargs = EchoEmbeddings(encoder=fake, query_encode_kwargs={"instruction": "abc"})
    assert by_field.embed_query("x") == by_kwargs.embed_query("x") == [4.0, 1.0, 120.0]
    assert by_field.embed_documents(["x"]) == [[0.0, 1.0, 120.0]]


def test_instruction_without_a_place_is_an_error(builtin_encoder):
    with pytest.raises(ConfigError, match="instruction"):
        EchoEmbeddings(encoder=builtin_encoder, query_instruction="Find it").embed_query(QUERY)


def test_dimensions(builtin_encoder, builtin_folder, tmp_path):
    short = EchoEmbeddings(dimensions=64)
    whole = np.array(builtin_encoder.encode_queries([QUERY])[0][:64])
    np.testing.assert_allclose(short.embed_query(QUERY), whole / np.linalg.norm(whole), atol=2e-3)
    assert short.cache_namespace != EchoEmbeddings().cache_namespace
    with pytest.raises(ConfigError, match="cannot keep 5000 of 1024"):
        EchoEmbeddings(dimensions=5000).embed_query(QUERY)


def test_show_progress(embeddings, builtin_encoder, capfd):
    EchoEmbeddings(encoder=builtin_encoder, show_progress=True).embed_documents(["a text"])
    assert "embedding" in capfd.readouterr().err
    embeddings.embed_documents(["a text"])
    assert capfd.readouterr().err == ""


# --- async, threads, copies ----------------------------------------------------------------------------------------


def test_async_equals_sync(float32_encoder, texts):
    embeddings = EchoEmbeddings(encoder=float32_encoder)

    async def all_at_once():
        return await asyncio.gather(*(embeddings.aembed_query(text) for text in texts))

    together = asyncio.run(all_at_once())
    # Together means other batches; in bfloat16 that is seen in the fourth digit of a cosine.
    assert cosines(np.array(together), np.array([embeddings.embed_query(text) for text in texts])).min() > 0.999999
    assert asyncio.run(embeddings.aembed_documents(texts)) == embeddings.embed_documents(texts)


def test_concurrent_queries_share_batches_and_do_not_block():
    fake = Fake(delay=0.3)
    embeddings = EchoEmbeddings(encoder=fake)

    async def ask():
        tasks = [asyncio.create_task(embeddings.aembed_query(str(i))) for i in range(50)]
        ticks = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.005)
            ticks += 1
        return await asyncio.gather(*tasks), ticks

    vectors, ticks = asyncio.run(ask())
    assert vectors == [EchoEmbeddings(encoder=Fake()).embed_query(str(i)) for i in range(50)]
    assert len(fake.calls) <= 3
    assert ticks >= 10


def test_a_bad_query_fails_alone():
    embeddings = EchoEmbeddings(encoder=Fake(delay=0.05))

    async def ask():
        asked = (embeddings.aembed_query(text) for text in ["first", "good", "bad", "fine"])
        return await asyncio.gather(*asked, return_exceptions=True)

    first, good, bad, fine = asyncio.run(ask())
    assert [first[1], good[1], fine[1]] == [5.0, 4.0, 4.0]
    assert "cannot be read" in str(bad)


def test_a_cancelled_query_leaves_the_others():
    embeddings = EchoEmbeddings(encoder=Fake(delay=0.1))

    async def ask():
        tasks = [asyncio.create_task(embeddings.aembed_query(text)) for text in ["a", "bb", "ccc"]]
        await asyncio.sleep(0.02)
        tasks[0].cancel()  # runs already
        tasks[1].cancel()  # waits
        return await asyncio.gather(*tasks, return_exceptions=True), await embeddings.aembed_query("dddd")

    (a, b, c), d = asyncio.run(ask())
    assert isinstance(a, asyncio.CancelledError)
    assert isinstance(b, asyncio.CancelledError)
    assert (c[1], d[1]) == (3.0, 4.0)


def test_eight_threads(embeddings, texts):
    expected = [embeddings.embed_query(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(embeddings.embed_query, texts)) == expected


def test_eight_threads_each_with_an_event_loop(float32_encoder):
    embeddings = EchoEmbeddings(encoder=float32_encoder)
    expected = np.array(embeddings.embed_query(QUERY))
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: asyncio.run(embeddings.aembed_query(QUERY)), range(16)))
    assert cosines(np.array(got), expected[None]).min() > 0.999999


def test_pickle_and_copies(builtin_encoder):
    for embeddings in (EchoEmbeddings(dimensions=32), EchoEmbeddings(encoder=builtin_encoder)):
        vector = embeddings.embed_query("x")
        again = pickle.loads(pickle.dumps(embeddings))
        assert len(pickle.dumps(embeddings)) < 2_000_000  # the config is there; weights (270 MB) are not
        assert again.embed_query("x") == vector
        assert again.cache_namespace == embeddings.cache_namespace
        assert copy.deepcopy(embeddings).embed_query("x") == vector


def test_construction_is_quick_and_loads_nothing():
    code = (
        "import sys, time\nfrom langchain_echo_embeddings import EchoEmbeddings\n"
        "start = time.perf_counter()\nEchoEmbeddings(model='some/model', dimensions=64)\n"
        "print((time.perf_counter() - start) * 1000, 'torch' in sys.modules, 'llama_index' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    milliseconds, torch, llama_index = done.stdout.split()
    assert float(milliseconds) < 50
    assert (torch, llama_index) == ("False", "False")


# --- names for caches ----------------------------------------------------------------------------------------------


def test_cache_namespace_differs_with_all_that_defines_a_vector(asymmetric_encoder):
    objects = [
        EchoEmbeddings(),
        EchoEmbeddings(config="echo"),
        EchoEmbeddings(config=EchoConfig.preset("echo").replace(max_length=99)),
        EchoEmbeddings(model="some/model", config="echo"),
        EchoEmbeddings(dimensions=64),
        EchoEmbeddings(dtype="float32"),
        EchoEmbeddings(adapter="some/adapter"),
        EchoEmbeddings(model="some/model", config="echo", model_kwargs={"revision": "1"}),
        EchoEmbeddings(encoder=asymmetric_encoder),
        EchoEmbeddings(encoder=EchoEncoder(dtype="float16")),
        EchoEmbeddings(encoder=EchoEncoder(adapter="other/adapter")),
    ]
    names = [name for e in objects for name in (e.cache_namespace, e.query_cache_namespace)]
    assert len(set(names)) == len(names)
    assert EchoEmbeddings(device="cpu", dtype="auto").cache_namespace == EchoEmbeddings().cache_namespace
    instructed = EchoEmbeddings(query_instruction="Find it")
    assert instructed.cache_namespace == EchoEmbeddings().cache_namespace
    assert instructed.query_cache_namespace != EchoEmbeddings().query_cache_namespace


def test_cache_namespace_of_an_unknown_embedder():
    with pytest.raises(ValueError, match="nothing tells one Fake from another.*__repr__"):
        _ = EchoEmbeddings(encoder=Fake()).cache_namespace


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "mean"}, r"pooling\s+Extra inputs are not permitted"),
        ({"model": 3}, r"model\s+Input should be a valid string"),
        ({"config": 3}, r"config\S*\s+Input should be an instance of EchoConfig"),
        ({"config": "ecko"}, "there is no preset 'ecko'; choose one of default, zero-shot, echo"),
        ({"on_truncate": "cry"}, "on_truncate='cry' is unknown; choose one of warn"),
        ({"dimensions": 0}, r"dimensions\s+Input should be greater than 0"),
        ({"dimensions": "64"}, r"dimensions\s+Input should be a valid integer"),
        ({"encode_kwargs": {"batch_size": 8}}, "unknown key 'batch_size'; valid: show_progress. Batches are made"),
        ({"encode_kwargs": {"instruction": "x"}}, "unknown key 'instruction'; valid: show_progress"),
        ({"query_encode_kwargs": {"prompt": "x"}}, "unknown key 'prompt'; valid: instruction, show_progress"),
        ({"model_kwargs": {"device": "cpu"}}, "device is a field of its own"),
        ({"cache_folder": "elsewhere"}, "cache_folder is for models from a hub"),
        ({"encoder": "some/model"}, "encoder is a str, which has no encode_documents"),
        ({"encoder": Fake(), "config": "echo"}, "config is settled by the encoder that was given"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValidationError, match=message):
        EchoEmbeddings(**fields)


def test_fields_cannot_be_changed():
    with pytest.raises(ValidationError, match="Instance is frozen"):
        EchoEmbeddings().config = "echo"


def test_columns_are_taken_and_other_containers_refused():
    embeddings = EchoEmbeddings(encoder=Fake())
    expected = embeddings.embed_documents(["a", "bb"])
    assert embeddings.embed_documents(pd.Series(["a", "bb"], index=[1, 0])) == expected
    assert asyncio.run(embeddings.aembed_documents(np.array(["a", "bb"]))) == expected
    for texts in (pd.DataFrame({"text": ["a"]}), {"a": "b"}, {"a", "b"}, (text for text in "ab"), None):
        with pytest.raises(TypeError, match=f"not {type(texts).__name__}; "):
            embeddings.embed_documents(texts)
        with pytest.raises(TypeError, match=f"not {type(texts).__name__}; "):
            asyncio.run(embeddings.aembed_documents(texts))
    for text in (["a"], None, pd.Series(["a"])):
        with pytest.raises(TypeError, match=rf"texts\[0\] is {type(text).__name__}"):
            embeddings.embed_query(text)


def test_bad_texts(embeddings):
    with pytest.raises(TypeError, match=r"give a list of texts; one text goes in as \[text\]"):
        embeddings.embed_documents("one text")
    with pytest.raises(TypeError, match=r"texts\[1\] is NoneType"):
        embeddings.embed_documents(["a", None])
    with pytest.raises(TypeError, match=r"texts\[0\] is int \(3\), not a string"):
        embeddings.embed_query(3)
    with pytest.raises(TypeError, match=r"texts\[0\] is int \(3\), not a string"):
        asyncio.run(embeddings.aembed_query(3))


def test_unknown_model():
    with pytest.raises(ModelError, match="model 'no-such/model' could not be loaded"):
        EchoEmbeddings(model="no-such/model").embed_query("x")


def test_folder_from_a_newer_version(tmp_path):
    (tmp_path / "echo_config.json").write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(ConfigError, match="newer echo-embeddings; update it, from a newer checkout: "):
        EchoEmbeddings(model=str(tmp_path)).embed_query("x")


def test_missing_package(builtin_folder, monkeypatch, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "use_dora": true}')
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"from a checkout: .*pip install '\.\[peft\]'"):
        EchoEmbeddings(adapter=str(tmp_path)).embed_query("x")


def test_a_loaded_model_is_not_pickled_in_silence(builtin_encoder, builtin_folder):
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(builtin_folder)
    encoder = EchoEncoder(model, tokenizer=AutoTokenizer.from_pretrained(builtin_folder))
    with pytest.raises(pickle.PicklingError, match="use save_pretrained"):
        pickle.dumps(EchoEmbeddings(encoder=encoder))


def test_every_option_of_an_encoder_is_a_field():
    assert EncoderOptions.names() - {"model"} <= set(EchoEmbeddings.model_fields)


def test_max_length_is_passed_on(builtin_folder):
    with pytest.warns(TruncationWarning, match=r"truncated to max_length=4 tokens"):
        short = EchoEmbeddings(max_length=4).embed_documents(["one two three four five six"])[0]
    assert cosines(np.array(short), EchoEncoder().encode_documents("one two three four")) > 0.9999
