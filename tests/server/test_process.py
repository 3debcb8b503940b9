"""A server process under load: how it stops, what clients that leave do to it, and how it comes back."""

import json
import signal
import socket
import threading
import time

import httpx
import pytest

from tests.conftest import TEXTS
from tests.server.conftest import NAME
from tests.server.running import running

MANY = [f"{text} {i}" for i in range(60) for text in TEXTS]


class Clients:
    """Threads that send requests one after the other, until the server is gone."""

    def __init__(self, url, sizes):
        self.answered, self.refused, self.broken, self.started = [], [], [], 0
        self._url = url
        self._threads = [threading.Thread(target=self._send, args=(size, i % 2)) for i, size in enumerate(sizes)]
        for thread in self._threads:
            thread.start()

    def _send(self, size, keeps_connection):
        limits = httpx.Limits(max_keepalive_connections=keeps_connection)
        with httpx.Client(timeout=60, limits=limits) as client:
            while True:
                try:
                    self.started += 1
                    answer = client.post(f"{self._url}/v1/embeddings", json={"model": NAME, "input": MANY[:size]})
                    assert len(answer.json()["data"]) == size
                    self.answered.append(answer.headers["x-request-id"])
                except httpx.ConnectError as error:
                    self.refused.append(error)
                    return
                except httpx.TransportError as error:  # the connection was closed before the server read the request
                    self.broken.append(error)

    def join(self):
        for thread in self._threads:
            thread.join(60)


def test_sigterm_under_load_answers_all_that_was_accepted_and_the_port_is_free_again(folder, tmp_path):
    with running(folder, tmp_path / "log") as server:
        port = server.url.rpartition(":")[2]
        clients = Clients(server.url, [1, 1, 2, 8, 60, 100])
        server.wait_until(lambda: len(clients.answered) > 12)
        server.stop()
        assert server.wait() == 0
        clients.join()
    answered, failed = server.events(), server.events("error")
    assert {line["status"] for line in answered} == {200}
    assert {line["id"] for line in answered} == set(clients.answered)
    assert len(clients.refused) == 6
    assert not failed
    assert server.events("stopping")[0]["requests"] > 0
    assert [line["event"] for line in server.lines()][-1] == "stopped"
    with running(folder, tmp_path / "again", "--port", port) as server:
        assert server.url.endswith(port)
        assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
        server.stop(signal.SIGINT)
        assert server.wait() == 0


def test_a_second_signal_ends_it_without_waiting(folder, tmp_path):
    with running(folder, tmp_path / "log") as server, connected(server) as half:
        half.sendall(head(1000, "Expect: 100-continue"))
        assert half.recv(100).startswith(b"HTTP/1.1 100")  # the body is waited for
        server.stop()
        server.wait_until(lambda: server.events("stopping"))
        assert server.wait(0.3) is None
        server.stop()
        assert server.wait() == 0


def connected(server):
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))


def head(length, *more):
    lines = ["POST /v1/embeddings HTTP/1.1", "Host: test", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {length}", *more, "", ""]).encode()


def test_clients_that_are_killed_leave_nothing_behind(server):
    body = json.dumps({"model": NAME, "input": MANY}).encode()
    before = len(server.events())
    for whole in (True, False):
        with connected(server) as client:
            client.sendall(head(len(body)) + (body if whole else body[:1000]))
            time.sleep(0.05)
    answer = httpx.post(f"{server.url}/v1/embeddings", json={"model": NAME, "input": "a text"})
    assert answer.status_code == 200
    server.wait_until(lambda: len(server.events()) >= before + 3)
    assert sorted(line["status"] for line in server.events()[before:]) == [200, 499, 499]
    assert "\necho_embeddings_queue_texts 0.0\n" in httpx.get(f"{server.url}/metrics").text


@pytest.mark.parametrize("path", ["/v1/embeddings", "/nothing"])
def test_a_connection_can_be_used_after_an_error(server, path):
    with httpx.Client() as client:
        answers = [client.post(f"{server.url}{path}", json={}) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {400 if path == "/v1/embeddings" else 404}
        assert client.post(f"{server.url}/v1/embeddings", content=b"x" * (9 * 2**20)).status_code == 413
        assert client.get(f"{server.url}/health").status_code == 200
