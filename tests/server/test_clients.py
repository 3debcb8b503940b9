"""The clients that people have work unchanged with a real server, and get the encoder's vectors."""

import base64
import json
import re
import shutil
import subprocess

import httpx
import numpy as np
import openai
import pytest

from echo_embeddings import EchoEncoder
from tests.conftest import TEXTS, cosines
from tests.server.conftest import NAME

LONG = TEXTS[-1]


@pytest.fixture(scope="module")
def openai_client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def vectors(answer):
    return np.array([one.embedding for one in answer.data], dtype=np.float32)


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
@pytest.mark.parametrize("texts", [TEXTS[0], TEXTS])
def test_openai_gets_the_encoder_s_vectors(openai_client, encoder, texts, encoding):
    more = {} if encoding is None else {"encoding_format": encoding}
    answer = openai_client.embeddings.create(model=NAME, input=texts, **more)
    expected = encoder.encode_documents([texts] if isinstance(texts, str) else texts)
    found = vectors(answer) if encoding != "base64" else np.stack([decoded(one.embedding) for one in answer.data])
    assert cosines(found, expected).min() > 0.99999
    assert np.abs(found - expected).max() < 1e-6
    assert [one.index for one in answer.data] == list(range(len(expected)))
    assert (answer.model, answer.object, answer.data[0].object) == (NAME, "list", "embedding")


@pytest.mark.parametrize("dtype", ["float16", "ubinary", "int8"])
async def test_smaller_vectors(client, encoder, dtype):
    ranged = encoder.fit_ranges([f"{text} {i}" for i in range(5) for text in TEXTS])
    expected = ranged.with_precision(dtype).encode_documents(TEXTS)
    async with client(encoder=ranged) as http:
        body = {"model": NAME, "input": TEXTS, "output_dtype": dtype}
        numbers = (await http.post("/v1/embeddings", json=body)).json()["data"]
        coded = (await http.post("/v1/embeddings", json=body | {"encoding_format": "base64"})).json()["data"]
    found = np.array([one["embedding"] for one in numbers])
    assert found.shape == expected.shape
    if dtype == "ubinary":  # a number near 0 may be rounded to the other side
        assert np.unpackbits(found.astype(np.uint8) ^ expected).sum() <= 2
    else:
        apart = np.abs(found.astype(np.float32) - expected.astype(np.float32)).max()
        assert apart <= (0.001 if dtype == "float16" else 1)
    bytes_of_each = [np.frombuffer(base64.b64decode(one["embedding"]), expected.dtype) for one in coded]
    np.testing.assert_array_equal(np.stack(bytes_of_each), found.astype(expected.dtype))


async def test_int8_without_ranges(client):
    async with client() as http:
        body = {"model": NAME, "input": TEXTS, "output_dtype": "int8"}
        answer = await http.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "output_dtype"
    assert "the model's config has none for 48 dimensions; take 'float16'" in answer.json()["error"]["message"]


def decoded(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


async def test_openai_s_client_for_event_loops(server, encoder):
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        answer = await client.embeddings.create(model=NAME, input=TEXTS)
    assert cosines(vectors(answer), encoder.encode_documents(TEXTS)).min() > 0.99999


@pytest.mark.parametrize(
    ("model", "input_type", "role"),
    [
        (NAME, None, "document"),
        (f"{NAME}:query", None, "query"),
        (NAME, "query", "query"),
        (NAME, "search_query", "query"),
        (f"{NAME}:query", "search_query", "query"),
        (NAME, "document", "document"),
        (NAME, "search_document", "document"),
        (NAME, "passage", "document"),
    ],
)
def test_both_roles(openai_client, encoder, model, input_type, role):
    more = {} if input_type is None else {"extra_body": {"input_type": input_type}}
    answer = openai_client.embeddings.create(model=model, input=TEXTS, **more)
    encode = {"document": encoder.encode_documents, "query": encoder.encode_queries}
    other = {"document": "query", "query": "document"}[role]
    assert cosines(vectors(answer), encode[role](TEXTS)).min() > 0.99999
    assert cosines(vectors(answer), encode[other](TEXTS)).max() < 0.999
    assert answer.model == model


@pytest.mark.parametrize("dimensions", [1, 17, 47, 48])
def test_shorter_vectors_are_those_of_an_encoder_with_dimensions(openai_client, folder, dimensions):
    shorter = EchoEncoder(folder, dtype="float32", dimensions=dimensions, on_truncate="ignore")
    answer = openai_client.embeddings.create(model=NAME, input=TEXTS, dimensions=dimensions)
    assert vectors(answer).shape == (len(TEXTS), dimensions)
    assert np.abs(vectors(answer) - shorter.encode_documents(TEXTS)).max() < 1e-6


def test_usage_counts_the_tokens_that_are_read(openai_client, encoder):
    counts = encoder.count_tokens(TEXTS)
    assert max(counts) > encoder.max_length
    usage = openai_client.embeddings.create(model=NAME, input=TEXTS).usage
    assert usage.prompt_tokens == usage.total_tokens == sum(min(count, encoder.max_length) for count in counts)


def test_models(openai_client, encoder):
    models = openai_client.models.list().data
    assert [model.id for model in models] == [NAME, f"{NAME}:query"]
    one = openai_client.models.retrieve(f"{NAME}:query")
    assert (one.object, one.role, one.dimensions, one.max_length) == ("model", "query", encoder.dimension, 40)


def test_openai_s_errors(openai_client):
    with pytest.raises(openai.NotFoundError) as found:
        openai_client.embeddings.create(model="text-embedding-3-small", input="a")
    assert found.value.code == "model_not_found"
    assert f"use '{NAME}' for documents and '{NAME}:query' for queries" in found.value.message
    with pytest.raises(openai.NotFoundError, match="there is no model 'none'"):
        openai_client.models.retrieve("none")
    with pytest.raises(openai.BadRequestError) as bad:
        openai_client.embeddings.create(model=NAME, input=[])
    assert (bad.value.param, bad.value.type) == ("input", "invalid_request_error")
    assert bad.value.request_id.startswith("req_")


@pytest.fixture
def small_tiktoken(monkeypatch):
    """tiktoken fetches its vocabularies; this one is made of bytes."""
    import tiktoken

    encoding = tiktoken.Encoding(
        "bytes", pat_str=".+", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    monkeypatch.setattr(tiktoken, "get_encoding", lambda _: encoding)
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda _: encoding)


async def test_langchain(server, encoder, small_tiktoken):
    from langchain_openai import OpenAIEmbeddings

    with httpx.Client() as http:
        async with httpx.AsyncClient() as http_async:
            address = {"base_url": f"{server.url}/v1", "api_key": "none"}
            address |= {"http_client": http, "http_async_client": http_async}
            documents = OpenAIEmbeddings(model=NAME, check_embedding_ctx_length=False, **address)
            queries = OpenAIEmbeddings(model=f"{NAME}:query", check_embedding_ctx_length=False, **address)
            found = np.array(documents.embed_documents(TEXTS))
            assert cosines(found, encoder.encode_documents(TEXTS)).min() > 0.99999
            assert cosines(np.array(queries.embed_query(TEXTS[0])), encoder.encode_queries(TEXTS[0])) > 0.99999
            assert cosines(np.array(await documents.aembed_documents(TEXTS)), found).min() > 0.99999
            with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
                OpenAIEmbeddings(model=NAME, **address).embed_query(TEXTS[0])


def test_llama_index(server, encoder):
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    texts = [text for text in TEXTS if text == " ".join(text.split())]  # it changes spaces and ends of lines
    assert len(texts) > 2
    with httpx.Client() as http:
        embedding = OpenAILikeEmbedding(model_name=NAME, api_base=f"{server.url}/v1", api_key="none", http_client=http)
        found = np.array(embedding.get_text_embedding_batch(texts))
        assert cosines(found, encoder.encode_documents(texts)).min() > 0.99999
        queries = OpenAILikeEmbedding(
            model_name=f"{NAME}:query", api_base=f"{server.url}/v1", api_key="none", http_client=http
        )
        assert cosines(np.array(queries.get_query_embedding(texts[0])), encoder.encode_queries(texts[0])) > 0.99999


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server, encoder):
    body = json.dumps({"model": NAME, "input": TEXTS[2]})
    command = ["curl", "-sS", "-i", f"{server.url}/v1/embeddings", "-H", "Content-Type: application/json", "-d", body]
    head, _, answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\n\n")
    assert re.match("HTTP/1.1 200 OK", head)
    found = np.array(json.loads(answer)["data"][0]["embedding"])
    assert cosines(found, encoder.encode_documents(TEXTS[2])) > 0.99999


def test_no_line_of_the_log_holds_a_text(server, openai_client):
    secret = "zebra-4711"
    openai_client.embeddings.create(model=NAME, input=[secret, LONG], user=secret)
    with pytest.raises(openai.BadRequestError, match=secret):
        openai_client.embeddings.create(model=NAME, input=[secret], dimensions=secret)
    server.wait_until(lambda: server.events()[-1]["status"] == 400)
    line = server.events()[-2]
    assert {**line, "id": 0, "time": 0, "ms": 0} == {
        "time": 0, "level": "info", "event": "request", "id": 0, "client": "127.0.0.1", "method": "POST",
        "path": "/v1/embeddings", "status": 200, "ms": 0, "model": NAME, "role": "document", "texts": 2,
        "tokens": line["tokens"], "truncated": 1,
    }  # fmt: skip
    assert line["tokens"] > 40
    assert secret not in json.dumps(server.lines())
