"""The module that pools the token vectors of an echo model: sentence-transformers' own, or ours where it has none."""

from __future__ import annotations

from typing import Any

from sentence_transformers.base.modules import Module
from sentence_transformers.sentence_transformer.modules import Pooling

from echo_embeddings import ConfigError
from echo_embeddings.forward.pooling import POOLINGS
from echo_embeddings.saving import POOLING_MODES

__all__ = ["EchoPooling", "pooling_module"]


def pooling_module(pooling: str, dimension: int) -> Module:
    """The module for a pooling of ``EchoConfig``.

    Args:
        pooling: its name, such as ``"mean"``.
        dimension: number of dimensions of a token vector.
    """
    return Pooling(dimension, POOLING_MODES[pooling]) if pooling in POOLING_MODES else EchoPooling(pooling)


class EchoPooling(Module):
    """One vector for each text, by a pooling of ``EchoConfig``, such as ``"mean_and_last"``.

    It reads ``token_embeddings`` (``[batch, tokens, dim]``) and ``attention_mask``, and adds ``sentence_embedding``
    (float32, ``[batch, dim]``).

    Args:
        pooling: the name of the pooling.

    Raises:
        ConfigError: there is no such pooling.
    """

    config_keys = ["pooling"]  # noqa: RUF012 - as sentence-transformers declares it

    def __init__(self, pooling: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if pooling not in POOLINGS:
            raise ConfigError(f"pooling={pooling!r} is unknown; choose one of {', '.join(POOLINGS)}")
        self.pooling = pooling

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Pool the token embeddings of a batch."""
        del kwargs
        pooled = POOLINGS[self.pooling](features["token_embeddings"], features["attention_mask"].bool())
        return {**features, "sentence_embedding": pooled}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the name of the pooling."""
        del args, safe_serialization, kwargs
        self.save_config(output_path)
