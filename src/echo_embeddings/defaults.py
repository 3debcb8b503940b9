"""Choose the config of an encoder that was given none: the one saved with the model, else a suitable preset."""

from __future__ import annotations

from pathlib import Path

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.config.files import ARRAYS_FILE, CONFIG_FILE
from echo_embeddings.model.spec import ModelSpec

__all__ = ["config_for", "saved_config"]


def config_for(spec: ModelSpec) -> EchoConfig:
    """Choose the config of a model for which the user gave none.

    - The built-in model: ``"default"``. With an adapter of the user: ``"zero-shot"``, because that adapter replaces
      the packaged one of ``"default"``.
    - Any other model: the config that is saved with it, else ``"echo"``, the paper's method.

    Raises:
        ConfigError: the saved config cannot be used.
    """
    if spec.model is None:
        return EchoConfig.preset("default" if spec.adapter is None else "zero-shot")
    saved = None if spec.is_loaded else saved_config(spec)
    return EchoConfig.preset("echo") if saved is None else saved


def saved_config(spec: ModelSpec) -> EchoConfig | None:
    """Load the echo config that is saved with a model; ``None`` if there is none."""
    from echo_embeddings.model.hub import find_file

    config = find_file(spec, CONFIG_FILE)
    if config is None:
        return None
    arrays = find_file(spec, ARRAYS_FILE)
    return EchoConfig.from_files(Path(config), None if arrays is None else Path(arrays))
