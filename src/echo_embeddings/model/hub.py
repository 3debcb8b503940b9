"""Find files that are saved with a model, in a folder or on the hub. Knows their names, not their contents."""

from __future__ import annotations

from typing import Any

from transformers.utils.hub import cached_file

from .spec import ModelSpec

__all__ = ["find_file", "hub_arguments"]

# Arguments of `from_pretrained` that say where the files are, so config and tokenizer need them too.
_HUB_ARGUMENTS = ("revision", "cache_dir", "token", "local_files_only", "trust_remote_code", "subfolder")


def hub_arguments(spec: ModelSpec) -> dict[str, Any]:
    """The part of ``model_kwargs`` that says where on the hub the model is."""
    return {name: spec.model_kwargs[name] for name in _HUB_ARGUMENTS if name in spec.model_kwargs}


def find_file(spec: ModelSpec, file: str) -> str | None:
    """Find a file that is saved with the model; on the hub, download it.

    Returns:
        Its path; ``None`` if there is no such file or no such model. A missing model is an error when it is loaded.
    """
    location = spec.location()
    if location.endswith(".gguf"):
        return None
    where = hub_arguments(spec)
    where.pop("trust_remote_code", None)
    try:
        found: str | None = cached_file(
            location,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **where,
        )
    except OSError:
        return None
    return found
