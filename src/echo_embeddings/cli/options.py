"""The options that several commands share, and the encoder they describe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.errors import InputError
from echo_embeddings.model import builtin

from . import output

__all__ = [
    "Config",
    "DType",
    "Device",
    "Dimensions",
    "Json",
    "MaxLength",
    "Model",
    "Role",
    "encode",
    "open_encoder",
    "quiet",
    "report_truncated",
    "where",
]

Model = Annotated[
    str | None,
    typer.Option(
        help="Hub id, folder or .gguf file of a causal model; without it, the built-in model.", metavar="MODEL"
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        help="Preset (default, zero-shot, echo, late-echo, classical, ...) or a folder with echo_config.json.",
        metavar="PRESET",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; without it, the best there is.")]
DType = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16 or int8.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens of a text that are read.", min=1)]
Dimensions = Annotated[
    int | None, typer.Option(help="Keep the first so many of a vector: 512 or 256 of the default's 1,024.", min=1)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


class Role(str, Enum):
    """Which template a text goes through."""

    document = "document"
    query = "query"


def where(model: str | None) -> str | None:
    """A model as other folders can find it: paths become absolute, hub ids stay.

    Raises:
        InputError: it can only be a path, and nothing is there.
    """
    if model is None:
        return None
    path = Path(model).expanduser()
    if path.exists():
        return str(path.resolve())
    if model.startswith(("/", ".", "~")):
        raise InputError(f"there is no model {model!r}; give a hub id, a folder with config.json, or a .gguf file")
    return model


def open_encoder(
    model: str | None,
    config: str | EchoConfig | None = None,
    *,
    device: str | None = None,
    dtype: str = "auto",
    max_length: int | None = None,
    dimensions: int | None = None,
) -> EchoEncoder:
    """An encoder with its weights loaded, so that what is wrong with them is said before the work begins.

    Texts that are cut are not warned of a window at a time; commands report ``encoder.truncated`` at the end.

    Raises:
        EchoError: model, config, device or dtype cannot be used.
    """
    if isinstance(config, str):
        folder = Path(config).expanduser()
        config = EchoConfig.load(folder) if folder.is_dir() else EchoConfig.preset(config)
    quiet()
    encoder = EchoEncoder(where(model), config, device=device, dtype=dtype, on_truncate="ignore", dimensions=dimensions)
    if max_length is not None:
        encoder = encoder.with_config(encoder.config.replace(max_length=max_length))
    fetch = model is None and not builtin.is_cached()
    message = "fetching the built-in model once (93 MB) and converting it" if fetch else f"loading {encoder.model_name}"
    with output.err.status(message):
        _ = encoder.dimension
    return encoder


def encode(
    encoder: EchoEncoder, texts: Sequence[str], role: Role, advance: Callable[[int], object]
) -> NDArray[np.float32]:
    """``encode_documents`` or ``encode_queries``, telling ``advance`` after each batch how many texts it held."""
    embed = encoder.encode_queries if role is Role.query else encoder.encode_documents
    return embed(list(texts), show_progress=advance)


def report_truncated(encoder: EchoEncoder) -> None:
    """Say once, at the end, how much was cut."""
    cut = encoder.truncated
    if cut.texts:
        output.note(
            f"warning: {cut.texts} text(s) were cut to {encoder.max_length} tokens; {cut.tokens} tokens were not read. "
            "Split long texts or raise --max-length"
        )


def quiet() -> None:
    """Keep transformers' own bars and chatter off the screen."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
