"""Run the application in this process: open the port, load, serve, and stop when all that was begun is done."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.errors import InputError
from echo_embeddings.types import require_encoder

from . import logs
from .app import create_app
from .options import ServerOptions, checked

__all__ = ["serve"]

# Longer than the usual proxies keep a connection that is idle, so that they never send into one that is being closed.
_KEEP_ALIVE = 75


def serve(
    encoder: EchoEncoder,
    options: ServerOptions | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    explain: Callable[[str], str] | None = None,
    ready: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve an encoder until SIGTERM or Ctrl-C; then answer what was begun, and return.

    The port is taken at once, but connections are refused until the weights are loaded: whoever gets one gets an
    answer. A second signal ends the server without waiting. The log goes to stderr, one JSON object a line.

    Args:
        encoder: which vectors to serve.
        options: name, keys and limits; ``None`` for the defaults.
        host: the address to listen on. The default can be reached from this machine only; ``"0.0.0.0"`` from all.
        port: 0 takes a free one.
        explain: as in :func:`create_app`.
        ready: called with the server's address when it takes requests.

    Raises:
        InputError: the address cannot be listened on.
        EchoError: the model cannot be used.
        TypeError: ``encoder`` or ``options`` is something else.
    """
    require_encoder(encoder)
    options = checked(options)
    logs.to_stream()
    with _listener(host, port) as listener:
        app = create_app(encoder, options, explain=explain)
        app.state.service.load()
        if not options.api_keys and not _is_private(listener):
            logs.log("everybody who reaches this address may use the server: there are no API keys", logging.WARNING)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, timeout_keep_alive=_KEEP_ALIVE
        )
        _Server(config, _url(listener), ready).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    """A socket that has its address and does not listen yet."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"host={host!r} is no address of this machine: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another port (0 takes a free one)"
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _is_private(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready, and returns after a signal in place of dying of it."""

    def __init__(self, config: uvicorn.Config, url: str, ready: Callable[[str], object]) -> None:
        super().__init__(config)
        self._url, self._ready = url, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            logs.log("ready", url=self._url)
            self._ready(self._url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logs.log("stopping", requests=len(self.server_state.tasks))
        await super().shutdown(sockets)
        logs.log("stopped")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # as in a notebook or a test; set should_exit
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        self.force_exit = self.should_exit
        self.should_exit = True
