"""``explain``: what the second copy of a sentence looks at, as a page to open in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echo_embeddings import evaluation

from . import options, output

__all__ = ["explain"]


def explain(
    text: Annotated[str, typer.Argument(help="A sentence, or a few.")],
    *,
    target: Annotated[Path, typer.Option("--output", "-o", help="The page: an .html file.")],
    model: options.Model = None,
    config: options.Config = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over an output that exists.")] = False,
) -> None:
    """Show what the second copy of a text looks at, and which tokens it changes most.

    The page loads nothing from elsewhere: open it in a browser, or send it to somebody.
    """
    from echo_embeddings.evaluation.explanation import require_page

    target = target.expanduser()
    require_page(target, overwrite=overwrite)
    encoder = options.make_encoder(model, config, device=device, dtype=dtype)
    with output.err.status(options.loading(encoder)):
        explanation = evaluation.explain(encoder, text)
    explanation.save(target, overwrite=overwrite)
    output.note(f"wrote {target}; open it in a browser")
