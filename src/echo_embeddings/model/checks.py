"""Check a model's files before they are loaded, and name the file when loading fails. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from echo_embeddings.errors import EchoError, ModelError
from echo_embeddings.extras import reworded

from . import manifest
from .hub import find_file
from .spec import ModelSpec

__all__ = ["check_model_config", "check_saved_files", "explained", "mark_of", "trusts_code"]

# Implementations that are part of torch and transformers. Any other may be code that is fetched from a hub.
_IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention", "batched_mm", "grouped_mm")
_WHOLE_NUMBERS = ("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "intermediate_size")


def trusts_code(spec: ModelSpec) -> bool:
    """Whether the user lets code from the model's files run.

    Raises:
        TypeError: ``trust_remote_code`` is neither true nor false.
    """
    trusted = spec.model_kwargs.get("trust_remote_code", False)
    if not isinstance(trusted, bool):
        raise TypeError(f"model_kwargs: trust_remote_code={trusted!r}: give True or False")
    return trusted


def check_model_config(spec: ModelSpec) -> None:
    """Check in ``config.json`` what transformers does not: numbers that are none, and code that would be fetched.

    Raises:
        ModelError: a field cannot be used; the message names the file and the field.
    """
    if spec.model is None or (found := find_file(spec, "config.json")) is None:
        return
    path = Path(found)
    content = _object(path)
    if not trusts_code(spec):
        for field, value in _implementations(content):
            raise ModelError(
                f"{path}: {field}={value!r} may be code that is fetched from a hub; if you want it, use "
                "model_kwargs={'attn_implementation': ...}, and remove the field"
            )
    for name in _WHOLE_NUMBERS:
        value = content.get(name)
        is_whole = isinstance(value, list) or (isinstance(value, int) and not isinstance(value, bool) and value > 0)
        if value is not None and not is_whole:
            raise ModelError(f"{path}: {name}={value!r} is no whole number from 1; save the model again")


def check_saved_files(spec: ModelSpec, *, modules: bool = False) -> None:
    """Check that weights and tokenizer are those that were saved together; see :mod:`manifest`.

    Args:
        spec: the model.
        modules: whether to check sentence-transformers' files too.

    Raises:
        ModelError: a file is missing, or is another one.
    """
    if spec.model is None or (not Path(spec.location()).is_dir() and mark_of(spec) is None):
        return
    if (found := find_file(spec, manifest.FILE)) is None:
        return
    manifest.check(Path(found), lambda name: find_file(spec, name), modules=modules)


def mark_of(spec: ModelSpec) -> str | None:
    """The fingerprint of the config that belongs to the model, as its files say; ``None`` if they do not say.

    Raises:
        ModelError: a file cannot be read, or one says something else than the other.
    """
    if spec.model is None or spec.is_loaded:
        return None
    of_config = None
    if (found := find_file(spec, "config.json")) is not None:
        of_config = manifest.mark_in(Path(found), _object(Path(found)))
        if of_config is None and not Path(spec.location()).is_dir():
            return None  # so the hub need not be asked for a list
    if (listed := find_file(spec, manifest.FILE)) is None:
        return of_config
    of_list = manifest.config_in(Path(listed))
    if of_config not in (None, of_list):
        raise ModelError(
            f"{listed} and {found} name different configs, so one of them is of another model; save the model again"
        )
    return of_list


@contextmanager
def explained(spec: ModelSpec) -> Iterator[None]:
    """Turn whatever transformers raises for a model's files into one ``ModelError`` that names model and file."""
    try:
        yield
    except ImportError as error:  # transformers needs another package for this model
        raise ImportError(reworded(str(error)), name=error.name) from error
    except (EchoError, MemoryError):
        raise
    except Exception as error:  # transformers raises whatever comes of a damaged file
        if type(error).__name__ == "OutOfMemoryError":
            raise
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"model {spec.name!r} needs code that is in its files and not in transformers; nothing of it was run. "
                "If you trust it, use EchoEncoder(model, model_kwargs={'trust_remote_code': True})"
            ) from error
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(
                f"model {spec.name!r} could not be loaded: its weights have other shapes than config.json says (see "
                "the report above); put the config.json of these weights there, or save the model again"
            ) from error
        said = f"{_damaged(spec)}{reworded(str(error)) or type(error).__name__}"
        raise ModelError(
            f"model {spec.name!r} could not be loaded: {said[:1000]}\n"
            "Give a hub id, a folder with config.json, or a .gguf file; EchoEncoder() alone uses the built-in model"
        ) from error


def _implementations(content: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a config, and of the configs in it, that name an implementation that we do not know."""
    for name, value in content.items():
        if name.endswith(("attn_implementation", "experts_implementation")):
            named = list(value.values()) if isinstance(value, dict) else [value]
            if any(one is not None and one not in _IMPLEMENTATIONS for one in named):
                yield inside + name, value
        elif isinstance(value, dict):
            yield from _implementations(value, f"{inside}{name}.")


def _damaged(spec: ModelSpec) -> str:
    """The first file of a model's folder that cannot be read, to be put before the library's message."""
    folder = Path(spec.location())
    if not folder.is_dir():
        return ""
    if file := spec.model_kwargs.get("gguf_file"):
        return f"{folder / str(file)} cannot be read: "
    checks = {"tokenizer.json": _tokenizer, ".json": _json, ".safetensors": _tensors}
    for path in sorted(folder.iterdir()):
        try:
            checks.get(path.name, checks.get(path.suffix, str))(path)
        except ModelError as error:  # noqa: PERF203 - the first fault ends it
            return f"{error}. "
    if pickled := sorted(folder.glob("pytorch_model*.bin")):
        return f"{pickled[0]} is pickled; convert the weights to safetensors. "
    return ""


def _object(path: Path) -> dict[str, Any]:
    content = _json(path)
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__} and no JSON object; save the model again")
    return content


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON ({error}); save the model again") from error
    except RecursionError:
        raise ModelError(f"{path} is not valid JSON (nested too deeply); save the model again") from None


def _tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer

    _json(path)
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain exceptions
        raise ModelError(f"{path} is no tokenizer ({error}); save the model again") from error


def _tensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); save the model again") from error
