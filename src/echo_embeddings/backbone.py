"""The causal language model, run over sequences that hold a text several times. A backbone knows no text.

With ``start_layer=0`` this is the model's own forward pass; where attention is ours, its last layer spares what is not
pooled. With late echo the model still prepares a pass over the whole sequence (embeddings, rotary angles, masks, each
as its architecture wants them); layers below ``start_layer`` are shown only the tokens of the first pass, and at
``start_layer`` the copies appear as the first copy's hidden states. So each token has one position, that of the
paper's doubled sequence, in every layer.

Sequences are padded on the right and run without a padding mask: under causal attention no token sees behind itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from . import attention
from .config import Layers
from .late_echo import Plan, wrap
from .narrow import pooled_only
from .tokenization import Ids, Layout
from .views import compiled, cut, has_layers, with_layers

__all__ = ["Backbone", "Batch"]

# Prefixes whose keys and values are kept: one a template and instruction; a server may see any number of instructions.
_MOST_PREFIXES = 8


@dataclass(frozen=True)
class Batch:
    """Padded sequences and where things stand in them.

    Attributes:
        ids: ``[batch, tokens]`` token ids, right-padded with 0.
        pooled: ``[batch, tokens]``, true where a token is pooled.
        first_pass: ``[batch or 1, kept]`` positions that run below ``start_layer``; one row where all rows agree.
        expansion: ``[batch or 1, tokens]`` indices into ``first_pass``.
    """

    ids: Int[Tensor, "batch tokens"]
    pooled: Bool[Tensor, "batch tokens"]
    first_pass: Int[Tensor, "rows kept"]
    expansion: Int[Tensor, "rows tokens"]

    @classmethod
    def of(cls, contents: Sequence[Ids], layout: Layout, device: torch.device | str) -> Batch:
        """Lay texts' content ids into a compiled template and pad them."""
        lengths = [len(content) for content in contents]
        tokens = layout.total(max(lengths))
        pooled = np.zeros((len(contents), tokens), dtype=bool)
        for row, n in enumerate(lengths):
            pooled[row, layout.pooled(n)] = True
        # Texts of one length have one plan; otherwise every row has its own.
        planned = lengths[:1] if len(set(lengths)) == 1 else lengths
        kept = len(layout.first_pass(max(lengths)))
        # In the first pass padding comes from behind the sequence, where no real token looks; what the padding of the
        # expansion starts from does not matter, for the same reason.
        first = [np.concatenate([layout.first_pass(n), np.arange(layout.total(n), tokens)])[:kept] for n in planned]
        arrays = (
            _padded([layout.assemble(content) for content in contents], tokens),
            pooled,
            np.stack(first),
            _padded([layout.expansion(n) for n in planned], tokens),
        )
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


def _padded(rows: Sequence[Ids], width: int) -> Ids:
    """Rows padded on the right with 0."""
    out = np.zeros((len(rows), width), dtype=np.int64)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out


class Backbone:
    """The layers of a decoder-only model up to ``layers.exit``, with the copy made at ``layers.start``.

    Args:
        model: the body of a decoder-only model (``AutoModel``). It is not changed: layers are shared, not copied.
        layers: resolved start and exit.

    Raises:
        ModelError: the architecture does not allow the layer choice.
    """

    def __init__(self, model: PreTrainedModel, layers: Layers) -> None:
        self.layers = layers
        #: The model without the layers above the exit, as it is saved.
        self.model = model if layers.exit == layers.depth else cut(model, layers.exit)
        self._prefixes: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        self._plan = Plan()
        self._runner = self.model
        if layers.start > 0:
            self._runner = with_layers(
                self.model, lambda stack: wrap(list(stack), layers.start, self._plan), final_norm=layers.final_norm
            )
        elif attention.is_used_on(self.model) and has_layers(self.model):
            self._runner = with_layers(
                self.model,
                lambda stack: nn.ModuleList([*stack[:-1], pooled_only(stack[-1], self._plan)]),
                final_norm=layers.final_norm,
            )
        elif not layers.final_norm:
            self._runner = with_layers(self.model, lambda stack: stack, final_norm=False)

    @property
    def dimension(self) -> int:
        """Length of a hidden state."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the token ids go."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def takes_prefix(self) -> bool:
        """Whether a prefix that all sequences share can be run once: where attention needs no mask for it."""
        return attention.is_used_on(self.model) and not compiled(self.model)

    def __call__(self, batch: Batch, prefix: tuple[int, ...] = ()) -> Float[Tensor, "batch tokens dim"]:
        """Hidden states at the exit, ``[batch, tokens, dim]``, in the model's dtype. Not to be called concurrently.

        With late echo, or where attention is ours, only those of pooled tokens mean something (:mod:`.narrow`).

        Args:
            batch: the sequences.
            prefix: ids that stand before each of them, where the model ``takes_prefix``; run once, and remembered.
        """
        past = {"past_key_values": self._past(prefix, len(batch.ids))} if prefix else {}
        self._plan.begin(batch)
        try:
            hidden: Tensor = self._runner(input_ids=batch.ids, use_cache=False, **past).last_hidden_state
        finally:
            self._plan.end()
        return hidden

    def _past(self, prefix: tuple[int, ...], rows: int) -> DynamicCache:
        """Keys and values of a prefix in each layer, for so many sequences."""
        if prefix not in self._prefixes:
            cache = DynamicCache()
            self.model(input_ids=torch.tensor([prefix], device=self.device), past_key_values=cache, use_cache=True)
            if len(self._prefixes) == _MOST_PREFIXES:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[prefix] = [(layer.keys, layer.values) for layer in cache.layers]
        past = DynamicCache()
        for i, (keys, values) in enumerate(self._prefixes[prefix]):
            past.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
        return past
