"""Decoder layers compiled by torch, for many texts: norms, angles and activations become one pass over memory."""

from __future__ import annotations

import os

import torch
from transformers import PreTrainedModel

from echo_embeddings import user_cache
from echo_embeddings.errors import warn
from echo_embeddings.model.architecture import layers_of

__all__ = ["compile_layers"]


def compile_layers(model: PreTrainedModel, *, backwards: bool = False) -> None:
    """Compile a model's decoder layers in place. They are alike, so it is done once for all of them.

    With ``backwards`` for training, under the same autocast: adapters on some layers make several kinds of layers, each
    compiled for itself.

    Kept in the user's cache folder, or where ``TORCHINDUCTOR_CACHE_DIR`` says: a later process reads it from there.
    Where it fails, for want of a C++ compiler, say, a warning tells why and the model stays as it is.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.fspath(user_cache.folder() / "compiled"))
    layers = layers_of(model)
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        _try(model, backwards=backwards)
    except Exception as error:  # noqa: BLE001  (whatever a compiler may raise, the model works without)
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
