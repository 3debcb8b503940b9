"""A loaded model at work: from texts to pooled vectors. A runtime knows no roles, no files and no frameworks."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from echo_embeddings.config import presets
from echo_embeddings.config.config import EchoConfig
from echo_embeddings.errors import ConfigError, NumericalError, WindowWarning, warn
from echo_embeddings.forward.backbone import Backbone, Batch
from echo_embeddings.forward.pooling import POOLINGS
from echo_embeddings.forward.speed import malloc, packed_attention
from echo_embeddings.forward.transfer import Arriving
from echo_embeddings.text.template import Template
from echo_embeddings.text.tokenizer import Content, EchoTokenizer, Ids, Layout
from echo_embeddings.types import Role, Vectors
from echo_embeddings.vectors.normalize import norms
from echo_embeddings.vectors.transforms import Transform, parted

from . import batch_size, batching

__all__ = ["Runtime"]

# Jobs of at least so many ordinary batches are worth a probe of the machine, which takes as long as some ten of them.
_PROBED_FROM = 64
_PROBE_LENGTH = 100
# Batches that a GPU has been given before the result of the first is asked for.
_AHEAD = 2
# A prefix of at least one token in so many is worth its copies of keys and values.
_PREFIX_PAYS = 24


class Runtime:
    """Backbone, tokenizer and config brought together.

    Args:
        model: the body of a causal model, on its device.
        tokenizer: its transformers tokenizer.
        config: what to run.

    Raises:
        ConfigError: the config was trained with a packaged adapter that is not merged into the model.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, config: EchoConfig) -> None:
        if config.packaged_adapter not in (None, getattr(model, presets.MARK, None)):
            raise ConfigError(
                f"the config was trained with the packaged adapter {config.packaged_adapter!r}, which is not merged "
                "into this model; load the model with EchoEncoder(), or use config='zero-shot' or 'late-echo'"
            )
        self.tokenizer = EchoTokenizer(tokenizer)
        text_config = model.config.get_text_config()
        self.backbone = Backbone(model, config.layers(text_config.num_hidden_layers))
        self._context: int | None = getattr(text_config, "max_position_embeddings", None)
        self._window = _narrowest_view(text_config, self.backbone.layers.start, self.backbone.layers.exit)
        self._budget: int | None = None
        self._takes_prefix = self.backbone.takes_prefix
        if self.backbone.device.type == "cpu":
            malloc.keep_freed()
        # One pass at a time: more would only fight for the same cores or the same memory.
        self._lock = threading.Lock()
        self._configure(config)

    def _configure(self, config: EchoConfig) -> None:
        self.config = config
        self.layout = lru_cache(maxsize=64)(self._layout)
        #: What maps the echo, and what cuts it and the words beside it.
        self.maps, self.cuts = parted(config.transforms)
        self.dimension = self.backbone.dimension
        for transform in self.maps:
            self.dimension = transform.output_dimension(self.dimension)
        self.dimension += 0 if config.lexical is None else config.lexical.dimension
        for cut in self.cuts:
            self.dimension = cut.output_dimension(self.dimension)

    def with_config(self, config: EchoConfig) -> Runtime | None:
        """A runtime of the same weights for another config; ``None`` if that wants layers or weights not in memory."""
        layers = self.backbone.layers
        if config.layers(layers.depth) != layers or config.packaged_adapter != self.config.packaged_adapter:
            return None
        other = copy.copy(self)
        other._configure(config)
        return other

    def limit(self, layout: Layout) -> int:
        """The most content tokens of a text: ``max_length``, or less where the copies would not fit the context."""
        if self._context is None:
            return self.config.max_length
        fits = (self._context - layout.overhead) // layout.copies
        if fits < 1:
            raise ConfigError(
                f"the template alone has {layout.overhead} tokens and leaves no room for {layout.copies} copies in the "
                f"model's context of {self._context}; use a shorter template or instruction"
            )
        return min(self.config.max_length, fits)

    def contents(self, texts: Sequence[str], template: Template, instruction: str | None) -> list[Content]:
        """Tokenise texts, cut to what this template can hold."""
        limit = self.limit(self.layout(template, instruction))
        return self.tokenizer.contents(texts, spaced=template.spaced, limit=limit)

    def pool(
        self,
        texts: Sequence[str],
        contents: Sequence[Content],
        layout: Layout,
        role: Role,
        on_done: Callable[[int], object] = lambda _: None,
    ) -> Vectors:
        """Vectors of texts, transforms applied and words beside them, not of unit length: float32 ``[n, dim]``.

        Args:
            texts: only to name one that the model cannot digest.
            contents: their ids, in the same order.
            layout: the compiled template.
            role: what the texts are, which says how long their lexical part is.
            on_done: told how many texts each batch held.
        """
        if self.config.lexical is None:
            return self.finished(self.states(texts, contents, layout, on_done), None)
        words = np.empty((len(contents), self.config.lexical.dimension), dtype=np.float32)

        def read(group: list[int]) -> None:
            words[group] = self.words([contents[i].ids for i in group], role)

        # Between batches and not in a thread: it would keep the interpreter from the one that feeds the GPU.
        return self.finished(self.states(texts, contents, layout, on_done, read), words)

    def states(
        self,
        texts: Sequence[str],
        contents: Sequence[Content],
        layout: Layout,
        on_done: Callable[[int], object] = lambda _: None,
        meanwhile: Callable[[list[int]], object] = lambda _: None,
    ) -> Vectors:
        """Pooled states before any transform, ``[n, hidden]``; arguments as for :meth:`pool`.

        ``meanwhile`` is called with each batch's places in ``contents`` before its result is waited for.
        """
        pooling = POOLINGS[self.config.pooling]
        layout = replace(layout, only_last=self.config.pooling == "last")  # the last layer computes no other position
        states = np.empty((len(contents), self.backbone.dimension), dtype=np.float32)
        lengths = [layout.total(len(content.ids)) for content in contents]
        budget, packs = self._tokens_a_batch(sum(lengths), layout), len(texts) > 1 and self._packs()
        overhead = batching.overhead_of(self.backbone.device, self.backbone.model.dtype, budget)
        groups = batching.fill(lengths, budget) if packs else batching.plan(lengths, budget, overhead)

        def compute(group: list[int]) -> torch.Tensor:
            ids = [contents[i].ids for i in group]
            if packs:
                batch = Batch.packed(ids, layout, self.backbone.device)
                return packed_attention.pooled(pooling, self._run(batch), batch.pooled_places(), batch.counts)
            prefix, rest = self._split(layout, lengths[group[0]])
            batch = Batch.of(ids, rest, self.backbone.device)
            hidden = self._run(batch, prefix)
            return pooling(hidden, batch.pooled.to(hidden.device))

        for group, rows in _behind(batching.run(groups, compute), _AHEAD if self.backbone.device.type == "cuda" else 0):
            meanwhile(group)
            states[group] = rows.numpy()
            on_done(len(group))
        self._require_finite(states, texts)
        return states

    def tokens(self, content: Content, layout: Layout) -> Vectors:
        """The last copy's vectors of one document, transforms applied: float32 ``[n, dim]``."""
        batch = Batch.of([content.ids], layout, self.backbone.device)
        states = self._run(batch)[0, layout.copy(-1, len(content.ids))].float().cpu()
        pooled = POOLINGS[self.config.pooling](states[None], torch.ones(1, len(states), dtype=torch.bool))
        return self.finished(states.numpy(), self.words([content.ids], "document"), pooled.numpy())

    def words(self, contents: Sequence[Ids], role: Role) -> Vectors | None:
        """The lexical part of texts, given their ids, as long as their role says: ``[n, dim]``; ``None`` without one.

        Of the ids and not of the texts, so that it knows no more of a truncated text than the echo does.
        """
        lexical = self.config.lexical
        return None if lexical is None else lexical.weight(role) * lexical.vectors(self.tokenizer.texts(contents))

    def finished(self, states: Vectors, words: Vectors | None, pooled: Vectors | None = None) -> Vectors:
        """Apply the config's transforms to states, and put words beside them: float32 ``[n, dim]``.

        Args:
            states: ``[n, hidden]``.
            words: ``[n, dim]`` or ``[1, dim]``, from :meth:`words`.
            pooled: what is given length 1 beside the words: ``[n, hidden]`` or ``[1, hidden]``; ``None``: states.
        """
        echo = _mapped(states, self.maps)
        if self.config.lexical is not None and words is not None:
            lengths = norms(echo if pooled is None else _mapped(pooled, self.maps))
            echo = np.divide(echo, lengths, dtype=np.float32, casting="same_kind")
            words = np.broadcast_to(words, (len(echo), words.shape[1]))
            echo = np.concatenate(self.config.lexical.beside(echo, words), axis=1)
        return _mapped(echo, self.cuts)

    def _tokens_a_batch(self, tokens: int, layout: Layout) -> int:
        """The token budget of a batch: what suits most machines, or in a job of many ``tokens`` what suits this one."""
        usual = batching.default_budget(self.backbone.device, self.backbone.dimension)
        if self._budget is None and tokens >= _PROBED_FROM * usual:
            layers, model = self.backbone.layers, self.backbone.model
            where = batch_size.machine(self.backbone.device)
            key = f"{where}, {type(model).__name__}, {self.backbone.dimension}, {layers}, {model.dtype}"
            self._budget = batch_size.remembered(
                key, lambda: batch_size.best_budget(usual, partial(self._probe, layout))
            )
        return self._budget or usual

    def _probe(self, layout: Layout, tokens: int) -> None:
        """Run one batch of about so many tokens, in texts of middling length, and wait for it."""
        content = np.arange(1, _PROBE_LENGTH + 1)
        rows = max(1, tokens // layout.total(_PROBE_LENGTH))
        self._run(Batch.of([content] * rows, layout, self.backbone.device))[:1, :1].cpu()

    def _packs(self) -> bool:
        with self._lock:
            return self.backbone.packs

    def _split(self, layout: Layout, tokens: int) -> tuple[tuple[int, ...], Layout]:
        """The template's prefix and what follows it, where running it once pays for sequences of so many tokens."""
        prefix = layout.literals[0]
        pays = len(prefix) * _PREFIX_PAYS >= tokens and self._takes_prefix
        return (prefix, layout.without_prefix()) if pays else ((), layout)

    def _run(self, batch: Batch, prefix: tuple[int, ...] = ()) -> torch.Tensor:
        with self._lock, torch.inference_mode():
            return self.backbone(batch, prefix)

    def _layout(self, template: Template, instruction: str | None) -> Layout:
        layout = self.tokenizer.layout(template, instruction)
        longest, hidden_from = self.limit(layout), self._hidden_from(layout)
        if hidden_from is not None and longest >= hidden_from:
            message = (
                f"every layer of this model looks back at most {self._window} tokens: in texts of {hidden_from} tokens "
                "or more the second copy can no longer see the beginning of the first. Set "
                f"max_length={hidden_from - 1} (now {longest}) to keep the echo whole"
            )
            warn(WindowWarning(message))
        return layout

    def _hidden_from(self, layout: Layout) -> int | None:
        """The shortest text whose last token cannot see its first copy's first token; ``None`` if there is none."""
        if self._window is None or layout.copies < 2:
            return None
        # From the first token of the first copy to the last of the second: two copies and what is between them.
        return max((self._window - len(layout.literals[1])) // 2 + 1, 1)

    def _require_finite(self, vectors: Vectors, texts: Sequence[str]) -> None:
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            named = ", ".join(repr(texts[i][:60]) for i in broken[:3])
            raise NumericalError(
                f"the model gave NaN or infinity for {len(broken)} of {len(texts)} texts, among them {named}; "
                f"it ran in {self.backbone.model.dtype}: try dtype='float32' (or 'bfloat16' instead of 'float16')"
            )


def _behind(batches: Iterator[tuple[list[int], torch.Tensor]], count: int) -> Iterator[tuple[list[int], Arriving]]:
    """Results of batches when so many later ones have been started: a device need not wait for the next."""
    coming: deque[tuple[list[int], Arriving]] = deque()
    for group, rows in batches:
        coming.append((group, Arriving(rows)))
        if len(coming) > count:
            yield coming.popleft()
    yield from coming


def _mapped(vectors: Vectors, transforms: Sequence[Transform]) -> Vectors:
    for transform in transforms:
        vectors = transform(vectors)
    return vectors


def _narrowest_view(config: Any, start: int, exit_: int) -> int | None:
    """How far back tokens see if *no* layer that runs the copy sees everything; ``None`` if one does."""
    window = getattr(config, "sliding_window", None)
    if window is None or getattr(config, "use_sliding_window", True) is False:
        return None
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * exit_
    return int(window) if all(kind == "sliding_attention" for kind in kinds[start:exit_]) else None
