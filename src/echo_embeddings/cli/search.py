"""``search``: a question to an index, with the model and the config that the index was made with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from echo_embeddings.errors import InputError
from echo_embeddings.search import Hit, Index

from . import options, output

__all__ = ["search"]


def search(
    folder: Annotated[Path, typer.Argument(metavar="INDEX", help="What [bold]index[/bold] wrote.")],
    question: Annotated[str, typer.Argument(help="In plain words.")],
    *,
    k: Annotated[int, typer.Option("-k", help="How many passages.", min=1)] = 5,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    json: options.Json = False,
) -> None:
    """Print the passages of an index that are nearest to a question."""
    index = Index.load(folder)
    made_with = index.manifest.model
    if model is not None and options.where(model) != made_with:
        raise InputError(
            f"{folder} was made with {index.manifest.model_name}, and vectors of {model} cannot be compared with it; "
            "leave --model out, or make the index again"
        )
    encoder = options.open_encoder(made_with, index.config, device=device, dtype=dtype)
    hits = index.search(encoder.encode_queries(question), k)
    options.report_truncated(encoder, encoder.truncated.texts, encoder.truncated.tokens)
    if json:
        output.print_json([asdict(hit) for hit in hits])
    else:
        for hit in hits:
            _show(hit)


def _show(hit: Hit) -> None:
    head = Text.assemble((f"{hit.rank}.", "bold"), f"  {hit.score:.3f}  ", (hit.source, "cyan"))
    output.out.print(head, soft_wrap=True)
    output.out.print(Padding(Text(hit.passage), (0, 0, 1, 4)))
