"""Every request has an answer of OpenAI's shape, which names the value, what is valid and what to do."""

import json

import httpx
import numpy as np
import pytest
from starlette.exceptions import HTTPException

from echo_embeddings import EchoConfig, EchoEncoder, Template
from echo_embeddings.server import ServerOptions, create_app
from tests.conftest import TEXTS, cosines
from tests.server.conftest import NAME

GOOD = {"model": NAME, "input": "a text"}
TOKENS = "input holds token ids, and those of another model's tokenizer mean nothing here; send the texts. LangChain: "


def error(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    (found,) = answer.json().values()
    assert set(found) == {"message", "type", "param", "code"}
    return found


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"input": []}, "input", "input is an empty list; give a text or a list of texts"),
        ({"input": ""}, "input", "input is an empty string; leave it out"),
        ({"input": ["a", ""]}, "input", "input[1] is an empty string; leave it out"),
        ({"input": ["a", 3.5]}, "input", "input[1] is the number 3.5, not a string"),
        ({"input": None}, "input", "input is null, not a string"),
        ({"input": {"text": "a"}}, "input", "input is an object, not a string"),
        ({"input": ["a", ["b"]]}, "input", "input[1] is a list, not a string"),
        ({"input": [True]}, "input", "input[0] is true or false, not a string"),
        ({"input": [1, 2, 3]}, "input", TOKENS),
        ({"input": [[1, 2], [3]]}, "input", TOKENS),
        ({"input": ["a"] * 2049}, "input", "input has 2049 texts, and a request at most 2048; send several requests"),
        ({"encoding_format": "hex"}, "encoding_format", "encoding_format='hex' is unknown; choose 'float' or 'base64'"),
        ({"dimensions": 0}, "dimensions", "dimensions=0: Input should be greater than or equal to 1"),
        ({"dimensions": 49}, "dimensions", "dimensions=49: choose from 1 to the model's 48"),
        ({"dimensions": "8"}, "dimensions", "dimensions='8': Input should be a valid integer"),
        ({"dimensions": 10**30}, "dimensions", "choose from 1 to the model's 48"),
        ({"input_type": "question"}, "input_type", "input_type='question' is unknown; choose 'document', 'query'"),
        (
            {"model": f"{NAME}:query", "input_type": "document"},
            "input_type",
            "model='tiny-llama:query' is for queries, and input_type='document' for documents; leave one of them out",
        ),
        ({"instruction": "Find"}, "instruction", "instruction is for queries; leave it out for documents"),
        ({"input_type": "query", "instruction": "Find"}, "instruction", "{instruction}"),
        ({"dimension": 3}, "dimension", "'dimension' is no field of this request; leave it out"),
        ({"model": 3}, "model", "model=3: Input should be a valid string"),
        ({"\ud800": "\ud800"}, None, ""),
    ],
)
async def test_a_request_that_cannot_be(client, changes, param, message):
    async with client() as http:
        said = error(await http.post("/v1/embeddings", content=json.dumps(GOOD | changes), headers=JSON), 400)
    assert message in said["message"]
    assert (said["param"], said["type"]) == (param or said["param"], "invalid_request_error")


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "message"),
    [
        (b'{"input": "a", ', JSON, "the body is no JSON: "),
        (b'{"input": "\xff"}', JSON, "the body cannot be read"),
        (b"[" * 100_000, JSON, "the body"),
        (b"[1]", JSON, "the body is no JSON object with the fields of this request"),
        (b"", JSON, "the body is no JSON object"),
        (b'{"input": "a", "model": "tiny-llama"}', {}, "with the header Content-Type: application/json"),
        (b"input=a&model=m", {"content-type": "application/x-www-form-urlencoded"}, "with the header Content-Type"),
        (b'{"input": "a"}', JSON, "model is missing; give it"),
        (b'{"input": "a", "model": "tiny-llama", "dimensions": NaN}', JSON, "dimensions=nan"),
    ],
)
async def test_a_body_that_cannot_be(client, content, headers, message):
    async with client() as http:
        assert message in error(await http.post("/v1/embeddings", content=content, headers=headers), 400)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/embedding", 404, "there is nothing under this path; use POST /v1/embeddings"),
        ("GET", "/v1/embeddings", 405, "this path does not take this method; it takes POST"),
        ("DELETE", "/v1/models", 405, "it takes GET"),
        ("GET", "/v1/models/none/such", 404, "there is no model 'none/such' here; there are 'tiny-llama' and"),
        ("GET", "/docs", 404, "there is nothing under this path"),
    ],
)
async def test_a_path_or_method_that_is_not_there(client, method, path, status, message):
    async with client() as http:
        assert message in error(await http.request(method, path), status)["message"]


async def test_an_unknown_model_is_named_with_those_there_are(client):
    async with client() as http:
        said = error(await http.post("/v1/embeddings", json=GOOD | {"model": "gpt"}), 404)
    assert said["code"] == "model_not_found"
    assert (
        said["message"]
        == "there is no model 'gpt' here; use 'tiny-llama' for documents and 'tiny-llama:query' for queries"
    )


async def test_half_a_character_is_embedded_as_the_encoder_does(client, encoder):
    async with client() as http:
        answer = await http.post("/v1/embeddings", content=json.dumps(GOOD | {"input": "a\ud800b"}), headers=JSON)
    assert cosines(answer.json()["data"][0]["embedding"], encoder.encode_documents("a\ud800b")) > 0.99999


async def test_instructions_where_the_template_has_a_place_for_them(client, folder):
    config = EchoConfig("{text}\n{text}", Template("{instruction}:\n{text}\n{text}"), max_length=40)
    encoder = EchoEncoder(folder, config, dtype="float32", on_truncate="ignore")
    body = GOOD | {"input": TEXTS[:2], "model": "it:query"}
    async with client(encoder=encoder, name="it") as http:
        await http.get("/health")
        answer = await http.post("/v1/embeddings", json=body | {"instruction": "Find boats"})
        found = [one["embedding"] for one in answer.json()["data"]]
        said = error(await http.post("/v1/embeddings", json=body), 400)
    assert cosines(found, encoder.encode_queries(TEXTS[:2], instruction="Find boats")).min() > 0.99999
    assert said["param"] == "instruction"
    create_app(encoder).state.service.load()  # no query can be run without an instruction


async def test_long_texts_are_refused_where_the_encoder_refuses_them(client, folder):
    encoder = EchoEncoder(folder, dtype="float32", on_truncate="error")
    async with client(encoder=encoder) as http:
        said = error(await http.post("/v1/embeddings", json=GOOD | {"input": TEXTS}), 400)
    assert said["code"] == "context_length_exceeded"
    assert "text(s) are longer than 40 tokens, the first has " in said["message"]


async def test_a_fault_of_the_server_s_is_told_without_its_message(client, encoder, monkeypatch, caplog):
    def fail(texts):
        raise RuntimeError(f"secret {texts}")

    monkeypatch.setattr(encoder, "encode_documents", fail)
    with caplog.at_level("INFO", "echo_embeddings.server"):
        async with client() as http:
            answer = await http.post("/v1/embeddings", json=GOOD)
    said = error(answer, 500)
    assert (said["type"], said["code"]) == ("server_error", "internal_error")
    assert answer.headers["x-request-id"] in said["message"]
    failed, request = [record.facts for record in caplog.records]
    assert failed["error"] == "RuntimeError"
    assert "fail" in failed["at"][-1]
    assert failed["id"] == request["id"] == answer.headers["x-request-id"]
    assert not any(word in repr((said, failed, request, caplog.text)) for word in ("secret", "a text"))


async def test_an_http_error_of_another_part_has_the_shape_too(encoder):
    app = create_app(encoder)

    @app.get("/teapot")
    async def teapot():
        raise HTTPException(418, "I am a teapot")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        assert error(await http.get("/teapot"), 418)["message"] == "I am a teapot"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_queue": 0}, "max_queue=0: give a whole number of at least 1"),
        ({"max_body": 1.5}, "max_body=1.5"),
        ({"name": "a:b"}, "name='a:b': give a name without spaces and without any of : [?] #"),
        ({"api_keys": "key"}, "api_keys must be a list of strings, not one string"),
        ({"api_keys": None}, "api_keys must be a list of strings, [(][)] for none"),
        ({"api_keys": [7]}, "api_keys must be a list of strings"),
        ({"cors": 5}, "cors must be a list of strings"),
        ({"name": 5}, "name=5: give a name without spaces"),
        ({"api_keys": ["two words"]}, "an API key is empty, or has a space"),
        ({"api_keys": [""]}, "an API key is empty"),
        (
            {"cors": ["example.org"]},
            "cors='example.org' is no origin; give one such as 'https://example.org', or '[*]'",
        ),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        ServerOptions(**options)


def test_options_do_not_show_keys():
    assert "secret" not in repr(ServerOptions(api_keys=["secret"]))


async def test_all_of_a_long_text_is_read_where_texts_are_split(client, folder):
    encoder = EchoEncoder(folder, dtype="float32", on_truncate="split")
    text = "the boat sails " * 40
    async with client(encoder=encoder) as http:
        answer = (await http.post("/v1/embeddings", json={"model": NAME, "input": text})).json()
    assert answer["usage"]["prompt_tokens"] == encoder.count_tokens(text)[0] > encoder.max_length
    assert np.abs(np.array(answer["data"][0]["embedding"]) - encoder.encode_documents(text)).max() < 1e-5
