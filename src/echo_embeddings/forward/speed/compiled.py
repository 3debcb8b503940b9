"""Let torch compile decoder layers. Norms, angles and activations are fused, which pays for many texts."""

from __future__ import annotations

import os

import torch
from transformers import PreTrainedModel

from echo_embeddings import user_cache
from echo_embeddings.errors import warn
from echo_embeddings.model.architecture import layers_of

__all__ = ["compile_layers"]


def compile_layers(model: PreTrainedModel, *, backwards: bool = False) -> None:
    """Compile a model's decoder layers in place. Layers of one kind are compiled once.

    The result is kept in the user's cache folder, or in the folder ``TORCHINDUCTOR_CACHE_DIR``, where a later process
    finds it. If compiling fails, for example because there is no C++ compiler, a warning says why and the model stays
    as it is.

    Args:
        model: the model.
        backwards: compile for training too. Call this under the autocast of the training. Adapters on some layers only
            make several kinds of layers.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.fspath(user_cache.folder() / "compiled"))
    layers = layers_of(model)
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        _try(model, backwards=backwards)
    except Exception as error:  # noqa: BLE001  (whatever the compiler raises, the model works without it)
        for layer in layers:
            layer._compiled_call_impl = None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        message = (
            f"the model could not be compiled and runs as it is: {type(error).__name__}: {reason}; torch.compile needs "
            "a C++ compiler on a processor. Leave out compiled=True, or install one"
        )
        warn(UserWarning(message))


def _try(model: PreTrainedModel, *, backwards: bool) -> None:
    ids = torch.ones(2, 40, dtype=torch.long, device=model.get_input_embeddings().weight.device)
    if not backwards:
        with torch.inference_mode():
            model(input_ids=ids, use_cache=False)
        return
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    model(input_ids=ids, use_cache=False).last_hidden_state.float().sum().backward()
    model.zero_grad(set_to_none=True)
