"""The options that several commands share, and the encoder they describe."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from echo_embeddings import EchoConfig, EchoEncoder, EncoderOptions
from echo_embeddings.config.config import require_length
from echo_embeddings.errors import ConfigError, InputError
from echo_embeddings.model import builtin
from echo_embeddings.search.storage import Manifest

from . import output

__all__ = [
    "Config",
    "DType",
    "Device",
    "Dimensions",
    "Instruction",
    "Json",
    "Long",
    "MaxLength",
    "Model",
    "OnTruncate",
    "Precision",
    "Role",
    "bytes_of",
    "encoder_of",
    "encoder_options",
    "loading",
    "make_encoder",
    "open_encoder",
    "quiet",
    "report_truncated",
    "require_model",
    "where",
]


def _max_length(value: str) -> int | str:
    """A number, or the word ``context``."""
    length: int | str = value
    with suppress(ValueError):
        length = int(value)
    try:
        require_length(length)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    return length


Model = Annotated[
    str | None,
    typer.Option(
        help="Hub id, folder or .gguf file of a causal model; without it, the built-in model.", metavar="MODEL"
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        help="Preset (default, zero-shot, any-model, echo, classical, ...) or a folder with echo_config.json.",
        metavar="PRESET",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; without it, the best there is.")]
DType = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16 or int8.")]

MaxLength = Annotated[
    Any,
    typer.Option(
        help="Tokens of a text that are read at once, or context: as many as fit the model's. The rest is truncated.",
        metavar="TOKENS",
        parser=_max_length,
    ),
]
Dimensions = Annotated[
    int | None, typer.Option(help="Keep the first so many of a vector: 512 or 256 of the default's 1,024.", min=1)
]
Instruction = Annotated[
    str | None,
    typer.Option(help="For a query template with {instruction}: what stands there; without it, that of the task."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


class Long(Enum):
    """What is done with a text over ``--max-length``."""

    warn = "warn"
    error = "error"
    split = "split"


OnTruncate = Annotated[
    Long,
    typer.Option(
        help="Longer texts: truncate and warn, stop with an error, or split, so that all of a text is in its vector."
    ),
]


class Role(str, Enum):
    """Which template a text goes through."""

    document = "document"
    query = "query"


class Precision(str, Enum):
    """How many bytes a number of a vector has."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"
    ubinary = "ubinary"


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


def encoder_options(
    model: str | None, config: str | EchoConfig | None = None, on_truncate: str = "warn", **more: Any
) -> EncoderOptions:
    """The options of an encoder that does not warn of truncated texts in each call.

    Args:
        model: as the user gave it; ``None`` for the built-in model.
        config: a config, the name of a preset, or a folder with ``echo_config.json``.
        on_truncate: a value of ``OnTruncate``.
        more: other fields of ``EncoderOptions``.

    Raises:
        EchoError: model or config cannot be used.
    """
    if isinstance(config, str) and (folder := Path(config).expanduser()).is_dir():
        config = EchoConfig.load(folder)
    policy = {"warn": "ignore"}.get(on_truncate, on_truncate)
    return EncoderOptions(model=where(model), config=config, on_truncate=policy, **more)


def make_encoder(
    model: str | None, config: str | EchoConfig | None = None, on_truncate: str = "warn", **options: Any
) -> EchoEncoder:
    """An encoder that has loaded nothing yet; commands report ``encoder.truncated`` at the end.

    Arguments as for :func:`encoder_options`.

    Raises:
        EchoError: model or config cannot be used.
    """
    return encoder_of(encoder_options(model, config, on_truncate, **options))


def encoder_of(made: EncoderOptions) -> EchoEncoder:
    """An encoder that has loaded nothing yet, and is quiet about what it does.

    Raises:
        EchoError: model or config cannot be used.
    """
    quiet()
    return EchoEncoder.from_options(made)


def open_encoder(
    model: str | None, config: str | EchoConfig | None = None, on_truncate: str = "warn", **options: Any
) -> EchoEncoder:
    """An encoder with its weights loaded, so that what is wrong with them is said before the work begins.

    Arguments as for :func:`make_encoder`.

    Raises:
        EchoError: model, config, device or dtype cannot be used.
    """
    encoder = make_encoder(model, config, on_truncate, **options)
    if encoder.model_name == builtin.NAME:
        builtin.folder()  # says itself what takes long
    with output.err.status(loading(encoder)):
        _ = encoder.dimension
    return encoder


def loading(encoder: EchoEncoder) -> str:
    """What is to be said while an encoder's model is loaded."""
    return f"loading {encoder.model_name}"


def require_model(folder: Path, made_with: Manifest, model: str | None) -> None:
    """Refuse a model that surely is another one than an index has, before it is loaded.

    A folder may hold the same model at another place; its weights tell.

    Raises:
        InputError: it is another model.
    """
    name = where(model)
    if name is not None and name != made_with.model and not Path(name).exists():
        raise InputError(
            f"{folder} was made with {made_with.model_name}, and vectors of {model} cannot be compared with it; "
            "leave --model out, or make the index again"
        )


def bytes_of(option: str, mebibytes: float) -> int:
    """A number of MiB in bytes.

    Raises:
        InputError: it is not finite.
    """
    if not math.isfinite(mebibytes):
        raise InputError(f"{option} {mebibytes}: give a number of MiB, such as 64")
    return int(mebibytes * 2**20)


def report_truncated(encoder: EchoEncoder, texts: int, tokens: int) -> None:
    """Say once, at the end, how much was truncated."""
    if texts:
        output.note(
            f"warning: {texts} text(s) were truncated to {encoder.max_length} tokens; {tokens} tokens were not read. "
            "Split long texts, raise --max-length, or have all of each read with --on-truncate split"
        )


def quiet() -> None:
    """Keep transformers' own bars and chatter off the screen."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for library in ("transformers", "huggingface_hub", "mteb"):
        logging.getLogger(library).setLevel(logging.ERROR)
