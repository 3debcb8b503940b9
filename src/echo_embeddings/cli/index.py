"""``index``: a folder of text, Markdown, HTML, PDF and Python into something that can be asked, and kept up to date."""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from echo_embeddings.data.passages import SUFFIXES
from echo_embeddings.errors import InputError
from echo_embeddings.extras import require
from echo_embeddings.search import Index, Update
from echo_embeddings.search.storage import require_replaceable
from echo_embeddings.search.update import plan
from echo_embeddings.types import require_chunking

from . import options, output

__all__ = ["index"]


class Kind(str, Enum):
    """How an index finds passages."""

    exact = "exact"
    hnsw = "hnsw"


def index(  # noqa: PLR0913 - typer wants a parameter for each option
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER-OR-FILE", help="Text, Markdown, reStructuredText, HTML, PDF, Python.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="INDEX", help="Folder to write; an index that is there is replaced.")
    ],
    *,
    update: Annotated[
        bool, typer.Option("--update", help="Embed new and changed files only, and drop those that are gone.")
    ] = False,
    kind: Annotated[
        Kind | None, typer.Option(help="exact, or hnsw: faster from some 100,000 passages on, and misses a few.")
    ] = None,
    model: options.Model = None,
    config: options.Config = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    max_length: options.MaxLength = None,
    on_truncate: Annotated[
        options.Long | None,
        typer.Option(help="Longer passages: truncate and warn, stop with an error, or split. With --update as before."),
    ] = None,
    dimensions: options.Dimensions = None,
    precision: Annotated[
        options.Precision | None,
        typer.Option(help="How vectors are kept: float32, float16, int8, or ubinary, a bit a dimension."),
    ] = None,
    late_chunking: Annotated[
        bool,
        typer.Option("--late-chunking", help="Read each file as a whole: a passage has seen what stands around it."),
    ] = False,
    json: options.Json = False,
) -> None:
    """Index files for [bold]search[/bold]: paragraphs of prose, docstrings of Python."""
    started = time.perf_counter()
    require("faiss", "faiss", "indexing")
    require_replaceable(target)
    made = Index.load(target) if update and target.exists() else None
    if made is not None and late_chunking and not made.manifest.late_chunking:
        raise InputError(f"{target} was made without --late-chunking; leave it out, or make it again without --update")
    how = {"max_length": max_length, "dimensions": dimensions}
    if made is not None:
        _require_same(target, made, model, config, {"kind": kind, "precision": precision}, how)
        planned = made.compare(source)
    else:
        if late_chunking:
            require_chunking(options.make_encoder(model, config, device=device, dtype=dtype, **how))
        planned = plan(source, ())
    _tell_skipped(planned.update)
    if made is None:
        policy = (on_truncate or options.Long.warn).value
        encoder = options.open_encoder(model, config, policy, device=device, dtype=dtype, **how)
        kept = (precision or options.Precision.float32).value
        made = Index.empty(encoder, kind=(kind or Kind.exact).value, precision=kept, late_chunking=late_chunking)
    elif not planned.changes_nothing:
        name = model or made.manifest.model
        policy = made.manifest.on_truncate if on_truncate is None else on_truncate.value
        made.encoder = options.open_encoder(name, made.config, policy, device=device, dtype=dtype)
    if not planned.changes_nothing:
        with output.progress("embedding", len(planned.passages)) as bar:
            made.update(planned, show_progress=bar.advance)
        made.save(target)
        truncated = made.encoder.truncated
        options.report_truncated(made.encoder, truncated.texts, truncated.tokens)
    seconds = time.perf_counter() - started
    if json:
        output.print_json(_facts(target, made, planned.update) | {"seconds": round(seconds, 3)})
    else:
        changes = f"{_changes(planned.update)}; " if update else ""
        done = f"{target}: {changes}{len(made)} passages in {seconds:.1f} s. Ask it: echo-embeddings search {target} "
        output.out.print(done + '"..."', soft_wrap=True)


def _require_same(
    target: Path,
    made: Index,
    model: str | None,
    config: str | None,
    kept: dict[str, Enum | None],
    how: dict[str, Any],
) -> None:
    """Refuse options that would need other vectors than those that the index has. No weights are loaded."""
    options.require_model(target, made.manifest, model)
    for name, value in kept.items():
        was = getattr(made.manifest, name)
        if value is not None and value.value != was:
            raise InputError(f"{target} is of {name} {was}; leave --{name} out, or make it again without --update")
    if config is None and not any(how.values()):
        return
    wanted = options.make_encoder(model or made.manifest.model, config, **how).config
    if wanted.fingerprint() != made.manifest.config:
        raise InputError(
            f"{target} was made with another config; leave --config, --max-length and --dimensions out, or make it "
            "again without --update"
        )


def _tell_skipped(update: Update) -> None:
    for reason in update.skipped:
        output.note(f"skipped: {reason}")
    if update.others:
        counted = sorted(update.others.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{number} {suffix or 'without a suffix'}" for suffix, number in counted)
        output.note(f"not read, by suffix: {named}. index reads {', '.join(SUFFIXES)}")


def _changes(update: Update) -> str:
    counts = {"new": update.new, "changed": update.changed, "removed": update.removed}
    return (
        ", ".join(f"{len(files)} {what}" for what, files in counts.items()) + f", {update.unchanged} unchanged file(s)"
    )


def _facts(target: Path, made: Index, update: Update) -> dict[str, Any]:
    return {
        "index": str(target),
        "passages": len(made),
        "dimension": made.dimension,
        "model": made.manifest.model_name,
        "config": made.manifest.config,
        **asdict(update),
    }
