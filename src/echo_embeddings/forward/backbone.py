"""The causal language model, run over sequences that hold a text several times. A backbone knows no text.

With ``start_layer=0`` this is the model's own forward pass; where attention is ours, its last layer spares what is not
pooled. With late echo the model still prepares a pass over the whole sequence (embeddings, rotary angles, masks, each
as its architecture wants them); layers below ``start_layer`` are shown only the tokens of the first pass, and at
``start_layer`` the copies appear as the first copy's hidden states. So each token has one position, that of the
paper's doubled sequence, in every layer.

Sequences are padded on the right and run without a padding mask: under causal attention no token sees behind itself.
Or they are packed into one row, where attention can keep them apart (:mod:`.packing`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from echo_embeddings.config.config import Layers
from echo_embeddings.model.architecture import compiled, cut, has_layers, with_layers
from echo_embeddings.text.tokenizer import Ids, Layout

from .last_layer import pooled_only
from .late_echo import Plan, wrap
from .speed import block_attention, fused_layers, packed_attention
from .transfer import sent

__all__ = ["Backbone", "Batch"]

_log = logging.getLogger(__name__)

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
        lengths: of the sequences that stand behind each other in one row; empty where each has a row of its own.
        counts: of pooled tokens of each of these sequences.
        places: ``[pooled tokens]`` indices into all tokens of the batch; if ``None``, they are looked for.
    """

    ids: Int[Tensor, "batch tokens"]
    pooled: Bool[Tensor, "batch tokens"]
    first_pass: Int[Tensor, "rows kept"]
    expansion: Int[Tensor, "rows tokens"]
    lengths: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    places: Int[Tensor, " places"] | None = None

    @classmethod
    def packed(cls, contents: Sequence[Ids], layout: Layout, device: torch.device | str) -> Batch:
        """Lay texts' content ids into a compiled template, one behind the other in a single row."""
        counts = np.array([len(content) for content in contents])
        lengths, pooled = layout.total(counts), layout.pooled(counts)
        starts = np.cumsum(lengths) - lengths
        first, *others = [
            packed_attention.spans(starts + layout.copy(i, counts).start, counts) for i in range(layout.copies)
        ]
        row = np.empty(lengths.sum(), dtype=np.int64)
        pools, kept = np.zeros(len(row), dtype=bool), np.ones(len(row), dtype=bool)
        for i, literal in enumerate(layout.literals):
            before = starts + (layout.copy(i - 1, counts).stop if i else 0)
            row[before[:, None] + np.arange(len(literal))] = literal
        row[first] = np.concatenate(contents)
        for copy in others:
            row[copy], kept[copy] = row[first], False
        # Of each token, which of those kept its state comes from where the copies appear.
        sources = np.cumsum(kept) - 1
        for copy in others:
            sources[copy] = sources[first]
        of_each = pooled.stop - pooled.start
        at = packed_attention.spans(starts + pooled.start, of_each)
        pools[at] = True
        arrays = (row[None], pools[None], kept.nonzero()[0][None], sources[None], at)
        ids, where, first_pass, expansion, places = (sent(array, device) for array in arrays)
        return cls(ids, where, first_pass, expansion, tuple(lengths.tolist()), tuple(of_each.tolist()), places)

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
            np.flatnonzero(pooled),
        )
        ids, where, first_pass, expansion, places = (sent(array, device) for array in arrays)
        return cls(ids, where, first_pass, expansion, places=places)

    def pooled_places(self) -> Int[Tensor, " places"]:
        """Where, of all tokens of the batch, those stand that are pooled."""
        return self.pooled.flatten().nonzero().squeeze(1) if self.places is None else self.places


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
        self._runner = self._prepared()

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
        return block_attention.is_used_on(self.model) and not compiled(self.model)

    @cached_property
    def packs(self) -> bool:
        """Whether sequences can stand in one row: tried once, because not every architecture keeps them apart."""
        return packed_attention.is_used_on(self.model) and self._keeps_apart()

    def __call__(self, batch: Batch, prefix: tuple[int, ...] = ()) -> Float[Tensor, "batch tokens dim"]:
        """Hidden states at the exit, ``[batch, tokens, dim]``, in the model's dtype. Not to be called concurrently.

        With late echo, or where attention is ours, only those of pooled tokens mean something (:mod:`.narrow`).

        Args:
            batch: the sequences.
            prefix: ids that stand before each of them, where the model ``takes_prefix``; run once, and remembered.
        """
        more: dict[str, Any] = {"past_key_values": self._past(prefix, len(batch.ids))} if prefix else {}
        if batch.lengths:
            more |= packed_attention.arguments(batch.lengths, self.device)
        self._plan.begin(batch)
        try:
            with packed_attention.running(packed=bool(batch.lengths)):
                hidden: Tensor = self._runner(input_ids=batch.ids, use_cache=False, **more).last_hidden_state
        finally:
            self._plan.end()
        return hidden

    @torch.inference_mode()
    def _keeps_apart(self) -> bool:
        """Whether two short texts have the same states in one row as each alone."""
        layout, contents = Layout(((), (1,), ())), [np.arange(3, 7), np.arange(5, 16)]
        batch = Batch.packed(contents, layout, self.device)
        try:
            states, mask = packed_attention.unpack(self(batch), batch.pooled_places(), batch.counts)
        except (ImportError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            _log.info("sequences are padded, not packed: %s", error)
            return False
        alone = [Batch.of([content], layout, self.device) for content in contents]
        return packed_attention.agrees([states[i][mask[i]] for i in range(2)], [self(one)[one.pooled] for one in alone])

    def _prepared(self) -> PreTrainedModel:
        """A view of the model that makes the copy, and spares what can be spared on this machine."""
        layers, plan, found = self.layers, self._plan, has_layers(self.model)
        spared, lighter = found and block_attention.is_used_on(self.model), found and fused_layers.pays_on(self.model)
        if layers.final_norm and not (layers.start > 0 or spared or lighter):
            return self.model

        def change(stack: nn.ModuleList) -> nn.ModuleList:
            light = [fused_layers.layer(layer) if lighter else layer for layer in stack]
            if layers.start > 0:
                return wrap(light, layers.start, plan)
            return nn.ModuleList([*light[:-1], pooled_only(light[-1], plan) if spared else light[-1]])

        return with_layers(self.model, change, final_norm=layers.final_norm)

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
