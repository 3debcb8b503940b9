"""Serve an encoder over HTTP, in OpenAI's words: FastAPI and uvicorn, with batches that all clients share.

Needs the extra ``server``. Knows no command line; what the page shows of ``explain`` is handed in.
"""

from echo_embeddings.extras import require

for _package in ("fastapi", "orjson", "prometheus_client", "uvicorn"):
    require(_package, "server", "the server")

from .app import create_app  # noqa: E402 - these need the packages above
from .options import ServerOptions  # noqa: E402
from .process import serve  # noqa: E402

__all__ = ["ServerOptions", "create_app", "serve"]
