"""Turn an ``EchoEncoder`` into a ``SentenceTransformer``; save either to a folder that both load, and load it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module
from sentence_transformers.sentence_transformer.modules import Normalize
from sentence_transformers.util import import_from_string

from echo_embeddings import ConfigError, EchoEncoder, EchoError, EncoderOptions, ModelError
from echo_embeddings.model import manifest
from echo_embeddings.saving import written

from .module import EchoModule
from .pooling import EchoPooling, pooling_module
from .weights import in_numbers

__all__ = ["from_encoder", "load", "save"]


def from_encoder(encoder: EchoEncoder) -> SentenceTransformer:
    """Make a ``SentenceTransformer`` of the same model, for its trainer, losses and tools.

    The weights are shared: training the ``SentenceTransformer`` changes the encoder too.

    Raises:
        ConfigError: the encoder makes other numbers than float32.
    """
    if encoder.options.precision != "float32":
        raise ConfigError(
            f"the encoder makes vectors with precision={encoder.options.precision!r}, and a SentenceTransformer is "
            "asked for that in each call: give from_encoder(...) an encoder without precision=, and say "
            f"model.encode(texts, precision={encoder.options.precision!r})"
        )
    return _model_of(encoder)


def _model_of(encoder: EchoEncoder) -> SentenceTransformer:
    runtime = encoder.runtime
    config = in_numbers(encoder.config, runtime.backbone.layers)
    module = EchoModule(runtime.backbone.model, runtime.tokenizer.source, config, runtime.merged_adapter)
    module.on_truncate = encoder.options.on_truncate
    module.own_adapter = own_adapter(encoder.options)
    dimension = module.get_embedding_dimension()
    pooling = pooling_module(module.echo_config.pooling, dimension)
    return SentenceTransformer(
        modules=[module, pooling, Normalize()], device=str(runtime.backbone.device), similarity_fn_name="cosine"
    )


def own_adapter(options: EncoderOptions) -> str | None:
    """The user's adapter that an encoder merges into its weights: ``adapter``, or a model that is one."""
    if options.adapter is not None:
        return os.fspath(options.adapter)
    is_adapter = options.model is not None and (Path(options.model).expanduser() / "adapter_config.json").is_file()
    return options.model if is_adapter else None


def save(model: EchoEncoder | SentenceTransformer, path: str | os.PathLike[str]) -> None:
    """Write a folder that ``EchoEncoder(path)``, ``load(path)`` and ``SentenceTransformer(path, ...)`` all load.

    For a ``SentenceTransformer`` this is the same as its own ``save_pretrained``.

    Args:
        model: an encoder, or a ``SentenceTransformer`` with an ``EchoModule``.
        path: the folder; made if it does not exist.

    Raises:
        ModelError: the ``SentenceTransformer`` has no ``EchoModule``.
    """
    if isinstance(model, EchoEncoder):
        model = _model_of(model)  # the numbers of vectors are not saved
    if not isinstance(model[0], EchoModule):
        raise ModelError(
            f"the first module is a {type(model[0]).__name__}, not an EchoModule; save it with model.save_pretrained"
        )
    with written(Path(path).expanduser()) as folder:
        model.save_pretrained(str(folder))
        manifest.write(folder, manifest.config_in(folder / manifest.FILE))


def load(
    path: str | os.PathLike[str],
    *,
    device: str | None = None,
    model_kwargs: dict[str, Any] | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
    max_length: int | None = None,
    on_truncate: str = "warn",
) -> SentenceTransformer:
    """Load what ``SentenceTransformer(path, trust_remote_code=True)`` loads, but never run code from the folder.

    Args:
        path: a folder or hub id with a saved echo model.
        device: where to run; ``None`` takes the best device of the machine.
        model_kwargs: for transformers' ``from_pretrained``, such as ``{"dtype": "float32"}``.
        revision: branch, tag or commit on the hub; ``None`` for the main branch.
        token: for private models on the hub.
        cache_folder: where the hub's files are stored; ``None`` for the hub's default.
        local_files_only: use stored files only, and never ask the hub.
        max_length: the most content tokens of a text that are embedded; ``None`` for the saved number.
        on_truncate: what to do with longer texts: ``"warn"`` once a call, raise an ``"error"``, or ``"ignore"``.

    Raises:
        ModelError: it is no saved sentence-transformers model, or needs a module of another package.
        ConfigError: it was written by a newer version.
    """
    path = os.fspath(Path(path).expanduser()) if os.fspath(path).startswith("~") else os.fspath(path)
    hub: dict[str, Any] = {"revision": revision, "token": token, "cache_folder": cache_folder}
    hub["local_files_only"] = local_files_only
    listed = _read(path, "modules.json", hub)
    if listed is None:
        raise ModelError(
            f"{path!r} has no modules.json, so it is no saved sentence-transformers model; for any other model use "
            "from_encoder(EchoEncoder(path))"
        )
    modules = [
        _module(path, kind, inside, {"model_kwargs": model_kwargs, **hub}) for kind, inside in _listed(path, listed)
    ]
    if isinstance(modules[0], EchoModule):
        modules[0].on_truncate = on_truncate
        if max_length is not None:
            modules[0].max_length = max_length
    saved = _read(path, "config_sentence_transformers.json", hub) or {}
    if not isinstance(saved, dict):
        raise ModelError(f"{path}: config_sentence_transformers.json holds no JSON object; save the model again")
    return SentenceTransformer(
        modules=modules,
        device=device,
        prompts=saved.get("prompts"),
        default_prompt_name=saved.get("default_prompt_name"),
        similarity_fn_name=saved.get("similarity_fn_name"),
        truncate_dim=saved.get("truncate_dim"),
    )


def _read(path: str, file: str, hub: dict[str, Any]) -> Any:
    found = Module.load_file_path(path, file, **hub)
    if found is None:
        return None
    try:
        return json.loads(Path(found).read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{found} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{found} is not valid JSON ({error}); save the model again") from error


def _listed(path: str, modules: Any) -> list[tuple[str, str]]:
    """Type and folder of each module in ``modules.json``."""
    listed = modules if isinstance(modules, list) else [modules]
    for entry in listed:
        fields = entry if isinstance(entry, dict) else {}
        if not isinstance(fields.get("type"), str) or not isinstance(fields.get("path"), str):
            raise ModelError(f"{path}: modules.json has {entry!r:.200}, which is no module; save the model again")
    return [(entry["type"], entry["path"]) for entry in listed]


def _module(path: str, kind: str, inside: str, arguments: dict[str, Any]) -> Any:
    module = _module_class(kind, path)
    try:
        return module.load(path, subfolder=inside, **arguments)
    except (EchoError, ImportError, MemoryError):
        raise
    except Exception as error:  # sentence-transformers raises whatever comes of a damaged file
        raise ModelError(
            f"{path}: the module {kind} in {inside or 'the folder itself'!r} could not be loaded "
            f"({type(error).__name__}: {error}); save the model again"
        ) from error


def _module_class(reference: str, path: str) -> Any:
    if reference == f"{EchoModule.__module__}.{EchoModule.__qualname__}":
        return EchoModule
    if reference == f"{EchoPooling.__module__}.{EchoPooling.__qualname__}":
        return EchoPooling
    if reference.startswith("sentence_transformers."):
        return import_from_string(reference)
    raise ModelError(
        f"{path!r} has a module {reference!r} that is neither sentence-transformers' nor ours; if you trust it, use "
        "SentenceTransformer(path, trust_remote_code=True)"
    )
