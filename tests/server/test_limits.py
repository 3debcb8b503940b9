"""Who may use the server, how much it takes, what clients share, and what is counted."""

import asyncio
import re
import threading

import httpx
import pytest

from echo_embeddings.errors import InputError
from echo_embeddings.server import ServerOptions, create_app, gate, serve
from echo_embeddings.server.keys import VARIABLE, Keys, read_keys
from tests.conftest import cosines
from tests.server.conftest import NAME

BODY = {"model": NAME, "input": "a text"}


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Bearer key-on", "Basic key-one", "key-one", "Bearer é"]
)
async def test_without_a_good_key_there_is_401(client, header):
    headers = {} if header is None else {"authorization": header.encode()}
    async with client(api_keys=["key-one", "key-two"]) as http:
        for path in ("/v1/embeddings", "/v1/models", "/metrics", "/nothing", "/page/compare"):
            answer = await http.post(path, json=BODY, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert "send the header Authorization: Bearer KEY" in answer.json()["error"]["message"]
        assert {(await http.get(path, headers=headers)).status_code for path in ("/", "/health")} == {200}


@pytest.mark.parametrize("header", ["Bearer key-one", "Bearer key-two", "bearer  key-two "])
async def test_with_any_of_the_keys_one_may_pass(client, header):
    async with client(api_keys=["key-one", "key-two"]) as http:
        assert (await http.post("/v1/embeddings", json=BODY, headers={"authorization": header})).status_code == 200


def test_every_key_is_compared_in_constant_time(monkeypatch):
    compared, keys = [], Keys(["a", "b", "c"])

    def compare(given, one):
        compared.append((len(given), len(one)))
        return given == one

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert keys.allow(b"Bearer a")
    assert not keys.allow(b"Bearer " + b"x" * 1000)
    assert compared == [(32, 32)] * 6


def test_keys_of_a_file_and_of_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# for the index\nkey-one\n\n  key-two \n")
    assert read_keys(file, {}) == ("key-one", "key-two")
    assert read_keys(file, {VARIABLE: "key-three, key-one"}) == ("key-one", "key-two", "key-three")
    assert read_keys(None, {VARIABLE: "a,b c"}) == ("a", "b", "c")
    assert read_keys(None, {}) == ()
    file.write_text("# none\n")
    with pytest.raises(InputError, match="holds no API key; write one a line, or leave the option out"):
        read_keys(file, {})
    with pytest.raises(InputError, match=f"{VARIABLE} is set and holds no key; write one, or unset it"):
        read_keys(None, {VARIABLE: " "})


# --- the body ---------------------------------------------------------------------------------------------------------


async def chunks(size):
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("content", [b" " * 5000, chunks(5000)], ids=["with its length", "in parts"])
async def test_a_body_that_is_too_long_is_413(client, content):
    async with client(max_body=4000) as http:
        answer = await http.post("/v1/embeddings", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert answer.json()["error"]["message"] == "the body is longer than 4000 bytes; send fewer texts in a request"
        assert answer.json()["error"]["code"] == "body_too_long"
        assert (await http.post("/v1/embeddings", json=BODY)).status_code == 200


class Exchange:
    """One request by hand, as a server gives it to an application."""

    def __init__(self, app, body=b'{"model": "tiny-llama", "input": ["a", "b"]}'):
        self.app, self.body, self.sent = app, body, []
        self.gone = asyncio.Event()
        self._whole = False

    async def __call__(self, path="/v1/embeddings"):
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": headers}
        scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "server": ("test", 80), "root_path": ""}
        await self.app(scope, self.receive, self.send)
        return self

    async def receive(self):
        if self.body is not None and not self._whole:
            self._whole = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)


async def test_a_body_that_does_not_come_is_408(encoder, monkeypatch):
    monkeypatch.setattr(gate, "_PATIENCE", 0.05)
    exchange = await Exchange(create_app(encoder), body=None)()
    assert exchange.sent[0]["status"] == 408


# --- the queue --------------------------------------------------------------------------------------------------------


@pytest.fixture
def held(encoder, monkeypatch):
    """An encoder that waits until ``go`` is set, and remembers its batches."""
    go, batches, encode = threading.Event(), [], encoder.encode_documents

    def encode_documents(texts):
        batches.append(texts)
        assert go.wait(20)
        return encode(texts)

    monkeypatch.setattr(encoder, "encode_documents", encode_documents)
    encoder.go, encoder.batches = go, batches
    yield encoder
    go.set()


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


async def test_a_full_queue_is_429_with_the_time_to_wait(client, held):
    async with client(max_queue=4) as http:
        waiting = [asyncio.create_task(http.post("/v1/embeddings", json=BODY | {"input": ["a"] * 2})) for _ in "ab"]
        await until(lambda: held.batches)
        refused = await http.post("/v1/embeddings", json=BODY)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        said = refused.json()["error"]
        assert (said["type"], said["code"]) == ("rate_limit_error", "queue_full")
        assert said["message"].startswith("4 texts wait already, and with 1 more there would be over 4; try again in ")
        assert re.search(r"^echo_embeddings_queue_texts 4.0$", (await http.get("/metrics")).text, re.MULTILINE)
        held.go.set()
        assert {(await one).status_code for one in waiting} == {200}
        assert (await http.post("/v1/embeddings", json=BODY)).status_code == 200


async def test_what_finds_nothing_waiting_is_taken_whatever_its_size(client):
    async with client(max_queue=1) as http:
        assert (await http.post("/v1/embeddings", json=BODY | {"input": ["a"] * 50})).status_code == 200


async def test_requests_at_the_same_time_share_batches(client, held):
    async with client() as http:
        bodies = [BODY | {"input": text} for text in ("first", "b", "c", ["d", "e"])]
        answers = []
        for body in bodies:
            answers.append(asyncio.create_task(http.post("/v1/embeddings", json=body)))
            await until(lambda: held.batches)
        await asyncio.sleep(0.2)
        held.go.set()
        found = [(await one).json()["data"] for one in answers]
    assert [sorted(batch) for batch in held.batches] == [["first"], ["b", "c", "d", "e"]]
    assert cosines(found[3][1]["embedding"], held.encode_documents(["e"])[0]) > 0.99999


async def test_a_client_that_leaves_costs_no_further_batch(held):
    app = create_app(held)
    first = asyncio.create_task(Exchange(app)())
    await until(lambda: held.batches)
    leaving, staying = Exchange(app, b'{"model": "tiny-llama", "input": "gone"}'), Exchange(app)
    tasks = [asyncio.create_task(one()) for one in (leaving, staying)]
    await asyncio.sleep(0.1)
    leaving.gone.set()
    await until(tasks[0].done)
    held.go.set()
    assert (await first).sent[0]["status"] == (await tasks[1]).sent[0]["status"] == 200
    assert leaving.sent == []
    assert held.batches == [["a", "b"], ["a", "b"]]
    assert app.state.service._texts == 0
    page = app.state.service.metrics.page().decode()
    assert 'echo_embeddings_requests_total{path="/v1/embeddings",status="499"} 1.0' in page


# --- what is counted --------------------------------------------------------------------------------------------------


async def test_metrics(client, encoder):
    async with client() as http:
        texts = ["a text", "and a much longer one " * 20]
        await http.post("/v1/embeddings", json=BODY | {"input": texts})
        await http.post("/v1/embeddings", json=BODY | {"model": f"{NAME}:query"})
        await http.get("/secret")
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    tokens = encoder.count_tokens(texts)
    for line in (
        'echo_embeddings_texts_total{role="document"} 2.0',
        'echo_embeddings_texts_total{role="query"} 1.0',
        f'echo_embeddings_tokens_total{{role="document"}} {tokens[0] + 40:.1f}',
        "echo_embeddings_truncated_texts_total 1.0",
        'echo_embeddings_requests_total{path="/v1/embeddings",status="200"} 2.0',
        'echo_embeddings_requests_total{path="other",status="404"} 1.0',
        'echo_embeddings_request_seconds_count{path="/v1/embeddings"} 2.0',
        "echo_embeddings_batch_texts_count 2.0",
        "echo_embeddings_batch_texts_sum 3.0",
        "echo_embeddings_batch_seconds_count 2.0",
        "echo_embeddings_queue_texts 0.0",
    ):
        assert f"\n{line}\n" in answer.text, line
    assert "secret" not in answer.text


# --- pages of others --------------------------------------------------------------------------------------------------

PREFLIGHT = {
    "origin": "https://example.org",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,authorization",
}


@pytest.mark.parametrize(
    ("cors", "allowed"), [((), None), (["https://example.org"], "https://example.org"), (["*"], "*")]
)
async def test_pages_of_others_may_use_it_only_if_that_is_asked_for(client, cors, allowed):
    async with client(cors=cors, api_keys=["key"]) as http:
        preflight = await http.options("/v1/embeddings", headers=PREFLIGHT)
        refused = await http.post("/v1/embeddings", json=BODY, headers={"origin": "https://example.org"})
    assert preflight.headers.get("access-control-allow-origin") == allowed
    assert (preflight.status_code == 200) == bool(allowed)
    assert (refused.status_code, refused.headers.get("access-control-allow-origin")) == (401, allowed)


async def test_a_page_of_others_is_allowed_by_its_origin(client):
    async with client(cors=["https://example.com"]) as http:
        answer = await http.post("/v1/embeddings", json=BODY, headers={"origin": "https://example.org"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("make", [create_app, serve])
def test_what_is_no_encoder_and_no_options_is_refused(make, encoder):
    with pytest.raises(TypeError, match=r"an EchoEncoder, not 'model'; make one: EchoEncoder\('model'\)"):
        make("model")
    with pytest.raises(TypeError, match=r"options must be ServerOptions\(\.\.\.\) or None, not a dict"):
        make(encoder, {"name": "mine"})


async def test_the_weights_are_loaded_when_the_application_starts(folder):
    from echo_embeddings import EchoEncoder

    encoder = EchoEncoder(folder, dtype="float32")
    app = create_app(encoder, ServerOptions(page=False))
    assert encoder._engine is None
    async with app.router.lifespan_context(app):
        assert encoder._engine is not None
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            assert (await http.get("/health")).json() == {"status": "ok"}
            assert (await http.get("/")).status_code == 404
