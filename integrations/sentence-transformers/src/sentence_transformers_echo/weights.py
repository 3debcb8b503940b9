"""Load weights, tokenizer and config with the core library, and write a config's layers as numbers."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from echo_embeddings import EchoConfig, ModelError, notices
from echo_embeddings.config.config import Layers
from echo_embeddings.defaults import choice_for
from echo_embeddings.forward.speed import switches
from echo_embeddings.model.adapter_files import AdapterFiles, adapter_files, with_base
from echo_embeddings.model.adapters import read_tensors
from echo_embeddings.model.checks import check_saved_files
from echo_embeddings.model.hub import pinned
from echo_embeddings.model.loading import LoadedModel, require_weights
from echo_embeddings.model.loading import load as load_model
from echo_embeddings.model.spec import ModelSpec

__all__ = ["add_adapter", "in_numbers", "load"]

_log = logging.getLogger(__name__)


def load(
    path: str, options: dict[str, Any], hub: dict[str, Any]
) -> tuple[LoadedModel, EchoConfig, AdapterFiles | None]:
    """Load a model and its config, on the CPU unless ``options`` has a ``device_map``.

    If the config was trained with a packaged adapter, that one is merged. If the folder is itself an adapter, its base
    is loaded, and the adapter is returned for the caller to add.

    Args:
        path: folder or hub id.
        options: for ``from_pretrained``; ``dtype`` as in ``EchoEncoder``.
        hub: further arguments that say where on the hub ``path`` is, such as ``revision``.

    Raises:
        ConfigError: the saved config is damaged, or belongs to other weights.
        ModelError: a file of the model is missing, damaged, or another one than was saved.
    """
    options = dict(options)
    dtype = options.pop("dtype", None) or options.pop("torch_dtype", None) or "auto"
    known = {name: value for name, value in hub.items() if value not in (None, "", False)}
    spec = pinned(ModelSpec(path, device="cpu", dtype=dtype, model_kwargs=options | known))
    choice = choice_for(spec, prompted=False, may_convert=True)  # prompts are added by sentence-transformers
    config = choice.config
    check_saved_files(spec, modules=True)
    based = with_base(spec.for_config(config))
    loaded = load_model(replace(based, adapter=None))
    require_weights(loaded, config.layers(loaded.body.config.get_text_config().num_hidden_layers).exit)
    switches.apply(loaded)
    if choice.notice:
        notices.say_once(_log, choice.notice)
    return loaded, config, None if based.adapter is None else adapter_files(based.adapter)


def add_adapter(model: PreTrainedModel, adapter: AdapterFiles) -> None:
    """Put an adapter beside the weights of a model, where it can be trained further.

    Raises:
        ModelError: it is damaged, incomplete, or does not fit the model.
    """
    read_tensors(adapter.weights)
    try:
        info = model.load_adapter(str(adapter.folder))
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # peft raises whatever comes of a config or of weights that do not fit
        raise ModelError(
            f"adapter {adapter.name!r} ({adapter.weights}) could not be loaded: {type(error).__name__}: {error}"
        ) from error
    if lost := sorted(getattr(info, "missing_keys", ())):
        raise ModelError(f"{adapter.weights} has no weights for {lost[0]!r}; save the adapter again")


def in_numbers(config: EchoConfig, layers: Layers) -> EchoConfig:
    """A copy of ``config`` with layers as numbers: fractions would mean other layers once those above the exit go."""
    return config.replace(start_layer=layers.start, exit_layer=layers.exit, final_norm=layers.final_norm)
