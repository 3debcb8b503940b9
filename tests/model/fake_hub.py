"""A model hub on this machine: it serves folders as models, and answers with any status that a test wants."""

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
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub()
    server.hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._send(*self._answer(), with_body=False)

    def do_GET(self) -> None:
        self._send(*self._answer(), with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> tuple[int, str, bytes]:
        hub, path = self.server.hub, self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            return self._listing(path.removeprefix("/api/models/"))
        model, _, rest = path.lstrip("/").partition("/resolve/")
        name = rest.partition("/")[2]
        hub.asked.append(name)
        if model not in hub.models:
            return 404, "RepoNotFound", b""
        if name in hub.statuses:
            return hub.statuses[name], "", b""
        if not (hub.models[model] / name).is_file():
            return 404, "EntryNotFound", b""
        return 200, "", (hub.models[model] / name).read_bytes()

    def _listing(self, path: str) -> tuple[int, str, bytes]:
        model, _, rest = path.partition("/tree/")
        folder = self.server.hub.models.get(model)
        if folder is None or "/" in rest:  # no model, or a folder in it
            return 404, "RepoNotFound" if folder is None else "EntryNotFound", b""
        files = [path for path in folder.iterdir() if path.is_file()]
        listed = [{"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0"} for path in files]
        return 200, "", json.dumps(listed).encode()

    def _send(self, status: int, error: str, body: bytes, *, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def use(monkeypatch, endpoint: str, cache: Path) -> None:
    """Let huggingface_hub in this process ask ``endpoint``, and keep its files in ``cache``."""
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(hf_api.api, "endpoint", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
