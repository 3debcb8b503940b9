"""Run a causal language model over sequences that contain a text several times. A backbone knows no text.

With ``start_layer=0`` this is the model's own forward pass. With late echo the model still prepares a pass over the
whole sequence (embeddings, rotary angles, masks, each as its architecture wants them). But layers below ``start_layer``
get only the tokens of the first pass, and at ``start_layer`` the hidden states of the first copy are repeated for the
other copies. So in every layer a token has the position that it has in the paper's doubled sequence.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from echo_embeddings.config.config import Layers
from echo_embeddings.model.architecture import cache_argument, drop_layers_above, with_layers
from echo_embeddings.text.layout import Layout

from .batch import Batch
from .last_layer import pooled_only
from .late_echo import wrap
from .pooling import rows_of
from .running import running
from .speed import fused_layers, packed_attention
from .speed.switches import Switch

__all__ = ["Backbone"]

_log = logging.getLogger(__name__)

# Keep keys and values of at most this many prefixes. Each pair of template and instruction has its own prefix, and a
# server may see any number of instructions.
_MOST_PREFIXES = 8


class Backbone:
    """The layers of a decoder-only model up to ``layers.exit``. The copy is made at ``layers.start``.

    Args:
        model: the body of a decoder-only model (``AutoModel``). It is not changed: layers are shared, not copied.
        layers: start and exit as layer numbers, resolved for this model.
        speed: what ``speed.switches.apply`` returned for the model; ``None`` runs the layers as they are.

    Raises:
        ModelError: the architecture does not allow these layers.
    """

    def __init__(self, model: PreTrainedModel, layers: Layers, speed: Mapping[str, Switch] | None = None) -> None:
        self.layers = layers
        self.speed = speed or {}
        #: The model without the layers above the exit, as it is saved.
        self.model = model if layers.exit == layers.depth else drop_layers_above(model, layers.exit)
        self._prefixes: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        self._runner = self._prepared()

    @property
    def dimension(self) -> int:
        """Length of a hidden state."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        """The device of the input embeddings: token ids must be there."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def takes_prefix(self) -> bool:
        """Whether a prefix that all sequences share can be run once. It can where attention needs no mask for it."""
        return self._uses("prefix")

    @cached_property
    def packs(self) -> bool:
        """Whether sequences can share one row. It is tried once, because not every architecture keeps them apart."""
        return self._uses("packed_attention") and self._keeps_apart()

    def __call__(self, batch: Batch, prefix: tuple[int, ...] = ()) -> Float[Tensor, "batch tokens dim"]:
        """Compute the hidden states at the exit, ``[batch, tokens, dim]``, in the model's dtype.

        Use only the states of pooled tokens, because the last layer may leave out the others. Do not call this from
        two threads at once.

        Args:
            batch: the sequences, on ``device``.
            prefix: token ids that come before each sequence, only if the backbone ``takes_prefix``. They run once, and
                their keys and values are kept for later batches.
        """
        more: dict[str, Any] = {cache_argument(self.model): self._past(prefix, len(batch.ids))} if prefix else {}
        if batch.lengths:
            more |= packed_attention.arguments(batch.lengths, self.device)
        with running(batch, self.layers.exit - 1 if self._leaves_out else None):
            hidden: Tensor = self._runner(input_ids=batch.ids, use_cache=False, **more).last_hidden_state
        return hidden

    @torch.inference_mode()
    def _keeps_apart(self) -> bool:
        """Whether two short texts in one row get the same states as each of them alone."""
        layout, contents = Layout(((), (1,), ())), [np.arange(3, 7), np.arange(5, 16)]
        batch = Batch.packed(contents, layout, self.device)
        try:
            states, mask = rows_of(self(batch), batch.pooled_places(), batch.counts)
        except (ImportError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            _log.info("sequences are padded, not packed: %s", error)
            return False
        alone = [Batch.of([content], layout, self.device) for content in contents]
        return packed_attention.agrees([states[i][mask[i]] for i in range(2)], [self(one)[one.pooled] for one in alone])

    def _uses(self, name: str) -> bool:
        return name in self.speed and self.speed[name].on

    @property
    def _leaves_out(self) -> bool:
        """Whether the last layer leaves out tokens that are not pooled.

        Without late echo it does so only together with block attention. Otherwise the pass is the model's own, bit for
        bit.
        """
        return self._uses("last_layer") and (self.layers.start > 0 or self._uses("block_attention"))

    def _prepared(self) -> PreTrainedModel:
        """A view of the model whose layers make the copy and use the faster ways that are switched on."""
        layers, fuses, leaves_out = self.layers, self._uses("fused_layers"), self._leaves_out
        if layers.final_norm and not (layers.start > 0 or leaves_out or fuses):
            return self.model

        def change(stack: nn.ModuleList) -> nn.ModuleList:
            changed = [fused_layers.layer(layer) if fuses else layer for layer in stack]
            if leaves_out:
                changed[-1] = pooled_only(changed[-1])
            return wrap(changed, layers.start) if layers.start > 0 else nn.ModuleList(changed)

        return with_layers(self.model, change, final_norm=layers.final_norm)

    def _past(self, prefix: tuple[int, ...], rows: int) -> DynamicCache:
        """Keys and values of a prefix in each layer, repeated for ``rows`` sequences."""
        if prefix not in self._prefixes:
            cache = DynamicCache()
            ids = torch.tensor([prefix], device=self.device)
            self.model(input_ids=ids, use_cache=True, **{cache_argument(self.model): cache})
            if len(self._prefixes) == _MOST_PREFIXES:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[prefix] = [(layer.keys, layer.values) for layer in cache.layers]
        past = DynamicCache()
        for i, (keys, values) in enumerate(self._prefixes[prefix]):
            past.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
        return past
