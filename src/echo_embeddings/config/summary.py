"""What can be said of a config in a few words, before any model is loaded: its name, and the length of its vectors."""

from __future__ import annotations

from typing import Any

from echo_embeddings.errors import ConfigError
from echo_embeddings.vectors.transforms import parted

from . import presets
from .config import EchoConfig
from .recipes import recipes

__all__ = ["fixed_dimension", "short_name"]


def short_name(config: EchoConfig) -> str:
    """The preset or recipe that a config is, such as ``default@256``; else the beginning of its fingerprint."""
    known = {name: EchoConfig.preset(name) for name in presets.names()}
    known |= {f"recipe {one.name}": one.config for one in recipes()}
    like = [name for name, one in known.items() if _core(one) == _core(config)]
    same = [name for name in like if known[name].max_length == config.max_length]
    name = next(iter(same + like), None)
    if name is None:
        try:
            return config.fingerprint()[:12]
        except ConfigError:  # its adapter is not in this installation
            return f"with the adapter {config.packaged_adapter!r}"
    _, lengths = parted(config.transforms)
    kept = "".join(f"@{one.options['dimension']}" for one in lengths[-1:])
    return f"{name}{kept}" + ("" if same else f", max_length={config.max_length}")


def fixed_dimension(config: EchoConfig) -> int | None:
    """The length of a vector, where fitted transforms fix it; ``None`` where it depends on the model, or cannot be."""
    fitted_for = (transform.input_dimension for transform in config.transforms)
    hidden_size = next((size for size in fitted_for if size is not None), None)
    try:
        return None if hidden_size is None else config.dimension(hidden_size)
    except ConfigError:
        return None


def _core(config: EchoConfig) -> tuple[Any, ...]:
    """All of a config but the limits of texts and vectors."""
    maps, _ = parted(config.transforms)
    return (
        config.templates,
        config.pooling,
        (config.start_layer, config.exit_layer, config.final_norm),
        [transform.digest() for transform in maps],
        config.packaged_adapter,
        None if config.lexical is None else config.lexical.digest(),
    )
