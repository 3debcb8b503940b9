"""Say what a model's architecture allows before its weights are loaded. A skeleton has its classes and no weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.errors import ConfigError, ModelError

from .architecture import require_late_echo
from .checks import trusts_code
from .loading import config_of
from .spec import ModelSpec

__all__ = ["why_no_late_echo"]


def why_no_late_echo(spec: ModelSpec, config: EchoConfig) -> str:
    """Why late echo cannot run on a model as a config wants it; empty if it can.

    Weights are not read: the model is made on the device ``meta``, in a tenth of a second.

    Raises:
        ModelError: there is no such model, or its config is damaged.
    """
    model = _body(spec.model) if spec.is_loaded else _without_weights(spec)
    if isinstance(model, str):
        return model
    try:
        layers = config.layers(model.config.get_text_config().num_hidden_layers)
        require_late_echo(model, layers.start, spec.model_kwargs.get("attn_implementation"))
    except (ConfigError, ModelError) as error:
        return str(error)
    return ""


def _body(model: Any) -> PreTrainedModel | str:
    """The body of a loaded model. What is none is refused when the encoder takes it."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    return model.base_model if isinstance(model, PreTrainedModel) else f"it is a {type(model).__name__}"


def _without_weights(spec: ModelSpec) -> PreTrainedModel | str:
    config = config_of(spec)
    try:
        with torch.device("meta"):
            made: PreTrainedModel = AutoModel.from_config(config, trust_remote_code=trusts_code(spec))
    except Exception as error:  # noqa: BLE001 - whatever it is, loading says what is wrong with the model, if anything
        return f"its layers cannot be seen before its weights are loaded ({type(error).__name__}: {error})"
    return made
