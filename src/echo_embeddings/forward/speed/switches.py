"""Decide which faster ways a model uses, and say why. Each may be switched off by its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from echo_embeddings.model.architecture import has_layers, is_compiled
from echo_embeddings.model.loading import LoadedModel

from . import block_attention, fused_layers, malloc, packed_attention
from .compiled import compile_layers

__all__ = ["Switch", "apply"]


@dataclass(frozen=True)
class Switch:
    """Whether one faster way is used.

    Attributes:
        on: whether it is used.
        why: the reason, in a few words.
    """

    on: bool
    why: str

    def __bool__(self) -> bool:
        return self.on


def apply(loaded: LoadedModel, *, off: Collection[str] = (), compiled: bool = False) -> Mapping[str, Switch]:
    """Switch on the faster ways that this machine allows and that change no vector. May be called again for a model.

    Args:
        loaded: the model. A model that the user loaded keeps its attention and is not compiled.
        off: names of ways not to use: ``"block_attention"``, ``"fused_layers"``, ``"last_layer"``,
            ``"malloc"``, ``"packed_attention"``, ``"prefix"``.
        compiled: let torch compile the decoder layers.

    Returns:
        A switch for each of these names, and one for ``"compiled"``.
    """
    body = loaded.body
    exchanges = loaded.may_change and not loaded.attention_is_chosen
    # In float32, torch's own attention is compiled together with the code around it, so it stays.
    whole = compiled and body.dtype == torch.float32
    if exchanges and not whole and "block_attention" not in off:
        block_attention.use_on(body)
    if exchanges and "packed_attention" not in off:
        packed_attention.use_on(body)
    if compiled and loaded.may_change and not is_compiled(body):
        compile_layers(body)
    kept = "" if exchanges else "the model's attention was chosen by the user"
    blocks = block_attention.is_used_on(body)
    found = {
        "block_attention": Switch(
            blocks, f"{body.dtype} on a processor" if blocks else kept or _no_blocks(loaded, whole=whole)
        ),
        "compiled": Switch(is_compiled(body), "asked for" if is_compiled(body) else "needs compiled=True"),
        "fused_layers": _fused(loaded),
        "last_layer": Switch(on=has_layers(body), why="only pooled tokens are computed in it"),
        "malloc": Switch(*_keeps_memory(loaded, off)),
        "packed_attention": _packed(loaded, kept),
        "prefix": Switch(
            on=blocks and not is_compiled(body),
            why="the template's beginning is run once for all texts" if blocks else "needs block_attention",
        ),
    }
    return {name: Switch(on=False, why="switched off") if name in off else switch for name, switch in found.items()}


def _no_blocks(loaded: LoadedModel, *, whole: bool) -> str:
    if loaded.body.device.type != "cpu":
        return "for processors only"
    return "compiled in float32" if whole else "some layers have a window or a state, or it is not torch's attention"


def _fused(loaded: LoadedModel) -> Switch:
    body = loaded.body
    if fused_layers.pays_on(body) and has_layers(body):
        return Switch(on=True, why=f"{body.dtype}")
    return Switch(on=False, why="for float16 and bfloat16 that are not compiled")


def _packed(loaded: LoadedModel, kept: str) -> Switch:
    if packed_attention.is_used_on(loaded.body):
        return Switch(on=True, why="where a trial shows that texts in one row stay apart")
    on_gpu = loaded.body.device.type == "cuda"
    return Switch(on=False, why=(kept or "for float16 and bfloat16") if on_gpu else "for CUDA GPUs only")


def _keeps_memory(loaded: LoadedModel, off: Collection[str]) -> tuple[bool, str]:
    if loaded.body.device.type != "cpu":
        return False, "for processors only"
    if "malloc" in off:
        return False, "switched off"
    kept = malloc.keep_freed()
    return kept, "freed memory is kept for the next batch" if kept else "needs glibc, and none of its variables set"
