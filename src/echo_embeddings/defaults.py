"""Which config an encoder takes when none is given: what is saved with the model, else the preset that suits it."""

from __future__ import annotations

from pathlib import Path

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.config.files import ARRAYS_FILE, CONFIG_FILE
from echo_embeddings.model.spec import ModelSpec

__all__ = ["config_for", "saved_config"]


def config_for(spec: ModelSpec) -> EchoConfig:
    """The config of a model that comes without one.

    - The built-in model: ``"default"``; beside an adapter of the user's ``"zero-shot"``, because the default's own
      adapter gives way to it.
    - Any other: the config that is saved with it, else ``"echo"``, the paper's method.

    Raises:
        ConfigError: there is a saved config, and it cannot be used.
    """
    if spec.model is None:
        return EchoConfig.preset("default" if spec.adapter is None else "zero-shot")
    saved = None if spec.is_loaded else saved_config(spec)
    return EchoConfig.preset("echo") if saved is None else saved


def saved_config(spec: ModelSpec) -> EchoConfig | None:
    """The echo config that is saved with a model; ``None`` if there is none."""
    from echo_embeddings.model.hub import find_file

    config = find_file(spec, CONFIG_FILE)
    if config is None:
        return None
    arrays = find_file(spec, ARRAYS_FILE)
    return EchoConfig.from_files(Path(config), None if arrays is None else Path(arrays))
