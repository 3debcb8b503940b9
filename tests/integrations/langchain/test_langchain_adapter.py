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

from echo_embeddings import (
    ConfigError,
    EchoConfig,
    EchoEncoder,
    EncoderOptions,
    ModelError,
    Template,
    TruncationWarning,
)
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
    short = EchoEmbeddings(dimensions=256)
    whole = np.array(builtin_encoder.encode_queries([QUERY])[0][:256])
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
    for embeddings in (EchoEmbeddings(dimensions=256), EchoEmbeddings(encoder=builtin_encoder)):
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
    config = EchoConfig("{text}\n{text}", Template("{instruction}: {text}\nAgain: {text}", instruction="Answer"))
    plain, instructed = EchoEmbeddings(config=config), EchoEmbeddings(config=config, query_instruction="Find it")
    assert instructed.cache_namespace == plain.cache_namespace
    assert instructed.query_cache_namespace != plain.query_cache_namespace


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
        ({"config": "ecko"}, "there is no preset 'ecko'; choose one of default, zero-shot, any-model, echo"),
        ({"on_truncate": "cry"}, "on_truncate='cry' is unknown; choose one of warn"),
        ({"dimensions": 0}, r"dimensions\s+Input should be greater than 0"),
        ({"dimensions": "64"}, r"dimensions\s+Input should be a valid integer"),
        ({"encode_kwargs": {"batch": 8}}, "unknown key 'batch'; valid: show_progress, .*batch_size.* Batches are made"),
        ({"encode_kwargs": {"instruction": "x"}}, "unknown key 'instruction'; valid: show_progress"),
        ({"query_encode_kwargs": {"task": "x"}}, "unknown key 'task'; valid: instruction, show_progress"),
        ({"cache_folder": "elsewhere"}, "cache_folder is for models from a hub"),
        ({"encoder": "some/model"}, "encoder is a str, which has no encode_documents"),
        ({"encoder": Fake(), "config": "echo"}, "config is settled by the encoder that was given"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValidationError, match=message):
        EchoEmbeddings(**fields)


# Fields, entries of `encode_kwargs` and of `model_kwargs` that HuggingFaceEmbeddings has and that ask for nothing new.
HARMLESS = [
    {"model_kwargs": {"device": "cpu"}, "encode_kwargs": {"normalize_embeddings": True}},
    {"encode_kwargs": {"batch_size": 8, "show_progress_bar": False, "convert_to_numpy": True, "device": "cpu"}},
    {"encode_kwargs": {"convert_to_tensor": True, "precision": "float32", "output_value": "sentence_embedding"}},
    {"encode_kwargs": {"prompt": "", "truncate_dim": None, "pool": None, "chunk_size": 100, "prompt_name": None}},
    {"query_encode_kwargs": {"normalize_embeddings": True, "batch_size": 1}},
    {"model_kwargs": {"backend": "torch", "similarity_fn_name": "cosine", "model_kwargs": {}, "prompts": {}}},
    {"model_kwargs": {"tokenizer_kwargs": {}, "truncate_dim": None, "cache_folder": None}},
    {"multi_process": False, "show_progress": False, "cache_folder": None, "normalize": True},
    {"trust_remote_code": False, "query_instruction": "", "embed_instruction": "", "pooling": None},
    {"embed_batch_size": 10, "max_length": None, "parallel_process": False},
]


@pytest.mark.parametrize("fields", HARMLESS, ids=str)
def test_what_is_harmless_in_the_frameworks_other_class_is_accepted(builtin_encoder, fields):
    embeddings = EchoEmbeddings(config=builtin_encoder.config, **fields)
    expected = EchoEmbeddings(config=builtin_encoder.config)
    assert embeddings.cache_namespace == expected.cache_namespace
    assert embeddings.query_cache_namespace == expected.query_cache_namespace


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"encode_kwargs": {"normalize_embeddings": False}},
            "normalize_embeddings=False: vectors always have unit len",
        ),
        (
            {"encode_kwargs": {"precision": "int8"}},
            "precision='int8': documents and queries need the same one: give",
        ),
        ({"encode_kwargs": {"output_value": "token_embeddings"}}, "output_value='token_.*EchoEncoder.encode_tokens"),
        ({"encode_kwargs": {"truncate_dim": 64}}, "truncate_dim=64: give dimensions="),
        ({"encode_kwargs": {"batch_size": 0}}, "batch_size=0: give a whole number"),
        ({"encode_kwargs": {"device": ["cpu", "cpu"]}}, "device must be a string, not list; several .* devices="),
        ({"encode_kwargs": {"device": "cpu"}, "device": "cuda"}, "device='cuda' and device='cpu' in encode_kw"),
        ({"encode_kwargs": {"prompt": 3}}, "prompt must be a string, not int"),
        (
            {"encode_kwargs": {"prompt_name": "passage"}},
            "prompt_name='passage' is unknown; there are none. Give model_kw",
        ),
        (
            {"model_kwargs": {"prompts": {"a": "b"}, "default_prompt_name": "c"}},
            "name='c' is unknown; choose one of 'a'",
        ),
        ({"model_kwargs": {"prompts": ["a"]}}, r"prompts=\['a'\]: give a dict of strings"),
        ({"model_kwargs": {"device": "cpu"}, "device": "cuda"}, "device='cuda' and model_kwargs=.*give one of them"),
        ({"model_kwargs": {"backend": "onnx"}}, "backend='onnx': the model runs on torch only"),
        ({"model_kwargs": {"truncate_dim": 64}}, "truncate_dim=64: give dimensions="),
        (
            {"model_kwargs": {"tokenizer_kwargs": {"padding_side": "left"}}},
            "encoder=EchoEncoder.model, tokenizer=token",
        ),
        ({"model_kwargs": {"max_seq_length": 5}}, "max_seq_length=5: give max_length="),
        ({"multi_process": True}, r"multi_process\s+Extra inputs are not permitted; give devices=\['cuda:0'"),
        ({"normalize": False}, r"normalize\s+Extra inputs are not permitted; vectors always have unit length"),
        ({"trust_remote_code": True}, r"model_kwargs=\{'trust_remote_code': True\}"),
        ({"revision": "abc"}, r"model_kwargs=\{'revision': 'abc'\}"),
        ({"pooling": "cls"}, r"pooling is part of the config: config=EchoConfig.preset\('echo'\)"),
        ({"text_instruction": "x"}, r"words before every text are part of the config: .*prompted"),
        ({"max_seq_length": 9}, r"max_seq_length\s+Extra .* give max_length="),
        ({"show_progress_bar": True}, "give show_progress=True"),
        ({"device": "gpu"}, "device='gpu' cannot be used: Expected one of cpu, cuda"),
        ({"dtype": "float12"}, "dtype='float12' is unknown; use 'auto', 'float32'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do_instead(fields, message):
    with pytest.raises(ValidationError, match=message):
        EchoEmbeddings(**fields)


def test_several_fields_that_cannot_be_are_all_said():
    with pytest.raises(ValidationError, match=r"(?s)2 validation errors.*(normalize\s.*pooling|pooling\s.*normalize)"):
        EchoEmbeddings(normalize=False, pooling="cls")


@pytest.mark.parametrize(
    "fields",
    [
        {"encode_kwargs": {"prompt": "passage: "}, "query_encode_kwargs": {"prompt": "query: "}},
        {"model_kwargs": {"prompts": {"query": "query: ", "document": "passage: "}}},
        {
            "model_kwargs": {"prompts": {"d": "passage: ", "q": "query: "}, "default_prompt_name": "d"},
            "query_encode_kwargs": {"prompt_name": "q"},
        },
    ],
    ids=["prompt", "role", "name"],
)
def test_prompts_stand_before_the_texts_of_their_role(late_encoder, fields):
    config = late_encoder.config
    document, query = config.templates
    prompted = config.replace(template=document.prompted("passage: "), query_template=query.prompted("query: "))
    embeddings = EchoEmbeddings(config=config, dtype="float32", **fields)
    expected = late_encoder.with_config(prompted)
    assert embeddings.embed_query("a") == pytest.approx(expected.encode_queries("a").tolist(), abs=1e-5)
    assert embeddings.embed_documents(["a"])[0] == pytest.approx(expected.encode_documents("a").tolist(), abs=1e-5)
    assert embeddings.cache_namespace != EchoEmbeddings(config=config, dtype="float32").cache_namespace


def test_a_prompt_for_documents_alone(late_encoder):
    embeddings = EchoEmbeddings(
        encoder=late_encoder,
        encode_kwargs={"prompt": "passage: "},
        query_encode_kwargs={"normalize_embeddings": True},
    )
    assert embeddings.embed_query("a") == late_encoder.encode_queries("a").tolist()
    assert embeddings.embed_documents(["a"])[0] != late_encoder.encode_documents("a").tolist()
    with pytest.raises(ValidationError, match="a prompt needs an EchoEncoder, and encoder is a Fake"):
        EchoEmbeddings(encoder=Fake(), encode_kwargs={"prompt": "passage: "})


# --- said when the object is made, not after a corpus ---------------------------------------------------------------

NEEDS = EchoConfig("{text}\n{text}", "{instruction}: {text}\nAgain: {text}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query_instruction": "Find it"}, "instruction 'Find it' was given, but template .* has no {instruction}"),
        ({"query_encode_kwargs": {"instruction": "Find"}}, "instruction 'Find' was given, but template"),
        ({"config": "echo", "query_instruction": "Find it"}, "has no {instruction}"),
        ({"model": "some/model", "config": "echo", "query_instruction": "Find it"}, "has no {instruction}"),
        ({"config": NEEDS}, "query template .* needs an instruction; pass query_instruction='...'"),
        (
            {"config": EchoConfig("{instruction} {text}")},
            "document template .* needs an instruction, and no call gives",
        ),
        (
            {"config": NEEDS, "query_instruction": "a", "query_encode_kwargs": {"prompt": "b"}},
            "both say what {instruct",
        ),
        ({"dimensions": 5000}, "cannot keep 5000 of 1024 dimensions"),
        ({"config": "echo", "dimensions": 577}, "cannot keep 577 of 576 dimensions"),
    ],
)
def test_what_cannot_work_is_said_at_construction(fields, message):
    with pytest.raises(ConfigError, match=message):
        EchoEmbeddings(**fields)


def test_what_a_saved_config_cannot_do_is_said_at_construction(tmp_path):
    EchoConfig.preset("echo").save(tmp_path)
    (tmp_path / "config.json").write_text('{"text_config": {"hidden_size": 32}}', encoding="utf-8")
    for fields, message in (
        ({"query_instruction": "Find it"}, "has no {instruction}"),
        ({"dimensions": 33}, "cannot keep 33 of 32"),
    ):
        with pytest.raises(ConfigError, match=message):
            EchoEmbeddings(model=str(tmp_path), **fields)
        if "dimensions" in fields:
            with pytest.raises(ConfigError, match=message):
                EchoEncoder(tmp_path, **fields)


def test_a_config_that_is_not_known_yet_is_checked_before_the_first_document(late_encoder, monkeypatch):
    monkeypatch.setattr(EchoEncoder, "known_config", None)  # as for a hub id that was never asked
    embeddings = EchoEmbeddings(encoder=late_encoder, query_instruction="Find it")
    with pytest.raises(ConfigError, match="instruction 'Find it' was given"):
        embeddings.embed_documents(["a"])


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
