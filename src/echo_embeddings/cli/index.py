"""``index``: a folder of text, Markdown, reStructuredText and Python into something that can be asked."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from echo_embeddings.data.passages import read_passages
from echo_embeddings.extras import require
from echo_embeddings.search import Index
from echo_embeddings.search.storage import require_replaceable

from . import options, output

__all__ = ["index"]


class Kind(str, Enum):
    """How an index finds passages."""

    exact = "exact"
    hnsw = "hnsw"


def index(  # noqa: PLR0913 - typer wants a parameter for each option
    source: Annotated[Path, typer.Argument(metavar="FOLDER-OR-FILE", help="Text, Markdown, reStructuredText, Python.")],
    target: Annotated[
        Path, typer.Argument(metavar="INDEX", help="Folder to write; an index that is there is replaced.")
    ],
    *,
    kind: Annotated[
        Kind, typer.Option(help="exact, or hnsw: faster from some 100,000 passages on, and misses a few.")
    ] = Kind.exact,
    model: options.Model = None,
    config: options.Config = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    dimensions: options.Dimensions = None,
    json: options.Json = False,
) -> None:
    """Index files for [bold]search[/bold]: paragraphs of prose, docstrings of Python."""
    started = time.perf_counter()
    require("faiss", "faiss", "indexing")
    require_replaceable(target)
    source.stat()  # the system's own message if there is nothing
    passages, skipped = read_passages(source)
    for reason in skipped:
        output.note(f"skipped: {reason}")
    encoder = options.open_encoder(
        model, config, device=device, dtype=dtype, max_length=max_length, dimensions=dimensions
    )
    with output.progress("embedding", len(passages)) as bar:
        made = Index.build(passages, encoder, kind=kind.value, show_progress=bar.advance)
    made.save(target)
    options.report_truncated(encoder, encoder.truncated.texts, encoder.truncated.tokens)
    seconds = time.perf_counter() - started
    if json:
        output.print_json(
            {
                "index": str(target),
                "passages": len(made),
                "dimension": made.dimension,
                "model": made.manifest.model_name,
                "config": made.manifest.config,
                "skipped": skipped,
                "seconds": round(seconds, 3),
            }
        )
    else:
        done = f"{target}: {len(made)} passages in {seconds:.1f} s. Ask it: echo-embeddings search {target} "
        output.out.print(done + '"..."', markup=False, soft_wrap=True)
