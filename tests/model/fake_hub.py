"""A model hub on this machine: it serves folders as models, and answers for a file with any status that a test wants."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What a running hub serves, and what it was asked for.

    Attributes:
        models: folders by id.
        statuses: what to answer for a file, such as ``{"echo_config.json": 500}``.
        asked: the files that were asked for, in order.
        endpoint: its URL.
    """

    endpoint = ""

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.statuses: dict[str, int] = {}
        self.asked: list[str] = []


@contextmanager
def running() -> Iterator[Hub]:
    """Run a hub; :func:`use` lets this process use it."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:  # noqa: N802
            self._answer(with_body=False)

        def do_GET(self) -> None:  # noqa: N802
            self._answer(with_body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            if self.path.startswith("/api/models/"):
                self._send(*self._listing(), with_body=with_body)
                return
            model, _, rest = self.path.lstrip("/").partition("/resolve/")
            name = rest.partition("/")[2].partition("?")[0]
            hub.asked.append(name)
            status, error, body = hub.statuses.get(name, 200), "", b""
            if model not in hub.models:
                status, error = 404, "RepoNotFound"
            elif status == 200 and not (hub.models[model] / name).is_file():
                status, error = 404, "EntryNotFound"
            elif status == 200:
                body = (hub.models[model] / name).read_bytes()
            self._send(status, error, body, with_body=with_body)

        def _listing(self) -> tuple[int, str, bytes]:
            model, _, rest = self.path.removeprefix("/api/models/").partition("?")[0].partition("/tree/")
            if model not in hub.models:
                return 404, "RepoNotFound", b""
            if "/" in rest:  # a folder of the model
                return 404, "EntryNotFound", b""
            files = [path for path in hub.models[model].iterdir() if path.is_file()]
            listed = [{"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0"} for path in files]
            return 200, "", json.dumps(listed).encode()

        def _send(self, status: int, error: str, body: bytes, *, with_body: bool) -> None:
            self.send_response(status)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')  # noqa: S324
            self.send_header("Content-Length", str(len(body)))
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def use(monkeypatch, endpoint: str, cache: Path) -> None:
    """Let huggingface_hub in this process ask ``endpoint``, and keep its files in ``cache``."""
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(hf_api.api, "endpoint", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
