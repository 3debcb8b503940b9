"""``index``: a folder of text, Markdown, reStructuredText and Python into something that can be asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from echo_embeddings.data.passages import Passage, read_passages
from echo_embeddings.extras import require
from echo_embeddings.search.index import require_replaceable, save_index

from . import options, output

if TYPE_CHECKING:
    from echo_embeddings import EchoEncoder

__all__ = ["embed_passages", "index"]

WINDOW = 1024


def index(
    source: Annotated[Path, typer.Argument(metavar="FOLDER-OR-FILE", help="Text, Markdown, reStructuredText, Python.")],
    target: Annotated[
        Path, typer.Argument(metavar="INDEX", help="Folder to write; an index that is there is replaced.")
    ],
    *,
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
    name = (options.where(model), encoder.model_name)
    manifest = save_index(target, passages, embed_passages(encoder, passages), encoder.config, name)
    options.report_truncated(encoder)
    seconds = time.perf_counter() - started
    if json:
        output.print_json(
            {
                "index": str(target),
                "passages": manifest.passages,
                "dimension": manifest.dimension,
                "model": manifest.model_name,
                "config": manifest.config,
                "skipped": skipped,
                "seconds": round(seconds, 3),
            }
        )
    else:
        done = f"{target}: {manifest.passages} passages in {seconds:.1f} s. Ask it: echo-embeddings search {target} "
        output.out.print(done + '"..."', markup=False, soft_wrap=True)


def embed_passages(encoder: EchoEncoder, passages: list[Passage]) -> Iterator[NDArray[np.float32]]:
    """The passages' vectors, a window at a time, under a progress bar."""
    with output.progress("embedding", len(passages)) as advance:
        for start in range(0, len(passages), WINDOW):
            texts = [passage.text for passage in passages[start : start + WINDOW]]
            yield options.encode(encoder, texts, options.Role.document, advance)
