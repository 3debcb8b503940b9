"""``serve``: an encoder behind an address, for OpenAI's clients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_embeddings.extras import require

from . import options, output

if TYPE_CHECKING:
    from echo_embeddings import EchoEncoder

__all__ = ["serve"]


def serve(  # noqa: PLR0913 - typer wants a parameter for each option
    model: Annotated[
        str | None,
        typer.Argument(
            help="Hub id, folder or .gguf file of a causal model; without it, the built-in model.", metavar="[MODEL]"
        ),
    ] = None,
    *,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model; NAME:query embeds queries.", metavar="NAME")
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(help="A file with an API key a line; others stand in ECHO_EMBEDDINGS_API_KEYS.", metavar="FILE"),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="Web pages from here may use the server: https://example.org, or *.", metavar="ORIGIN"),
    ] = None,
    max_body_mb: Annotated[float, typer.Option(help="The most MiB of a request.", min=0.001)] = 8,
    max_queue: Annotated[int, typer.Option(help="The most texts that may wait; then clients get 429.", min=1)] = 8192,
    no_page: Annotated[bool, typer.Option("--no-page", help="No page to try the model in a browser.")] = False,
    config: options.Config = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    dimensions: options.Dimensions = None,
    precision: Annotated[
        options.Precision, typer.Option(help="Of the vectors, where a request has no output_dtype.")
    ] = options.Precision.float32,
    on_truncate: options.OnTruncate = options.Long.warn,
) -> None:
    """Serve embeddings over HTTP, as OpenAI's API has them.

    Its clients work unchanged with the base URL http://127.0.0.1:8000/v1. Ctrl-C or SIGTERM answers what was begun, and
    ends.
    """
    for package in ("fastapi", "orjson", "prometheus_client", "uvicorn"):
        require(package, "server", "serving")
    from echo_embeddings import server
    from echo_embeddings.server.keys import read_keys

    encoder = options.make_encoder(
        model,
        config,
        on_truncate.value,
        device=device,
        dtype=dtype,
        max_length=max_length,
        dimensions=dimensions,
        precision=precision.value,
    )
    limits = server.ServerOptions(
        name=name,
        api_keys=read_keys(None if api_keys is None else api_keys.expanduser()),
        cors=cors or (),
        max_body=options.bytes_of("--max-body-mb", max_body_mb),
        max_queue=max_queue,
        page=not no_page,
    )
    watched = output.err.is_terminal
    with encoder:
        server.serve(encoder, limits, host=host, port=port, explain=_explained(encoder), ready=_say if watched else _no)


def _explained(encoder: EchoEncoder) -> Any:
    """What makes the page about a text: the server knows nothing of evaluation."""

    def page(text: str) -> str:
        from echo_embeddings import evaluation

        return evaluation.explain(encoder, text).page()

    return page


def _say(url: str) -> None:
    output.note(f"serving; try it in a browser at {url}, or give clients the base URL {url}/v1; Ctrl-C ends")


def _no(_: str) -> None:
    """Say nothing: who reads a log in a file wants lines of JSON only."""
