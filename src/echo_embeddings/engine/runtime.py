"""Run a loaded model on one device, from texts to vectors. A runtime knows no files and no frameworks."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.errors import ConfigError, NumericalError, WorkerError
from echo_embeddings.forking import ForkLock, forks
from echo_embeddings.forward.backbone import Backbone
from echo_embeddings.forward.batch import Batch
from echo_embeddings.forward.every_exit import every_exit
from echo_embeddings.forward.pooling import POOLINGS
from echo_embeddings.forward.speed import switches
from echo_embeddings.forward.transfer import Arriving
from echo_embeddings.model.loading import LoadedModel, require_weights, unembedding
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.inputs import CHUNK
from echo_embeddings.text.layout import Content, Ids, Layout
from echo_embeddings.text.template import Template
from echo_embeddings.text.tokenizer import EchoTokenizer
from echo_embeddings.text.truncation import TruncationCount
from echo_embeddings.types import Role, TokenEmbeddings, Vectors
from echo_embeddings.vectors.normalize import norms
from echo_embeddings.vectors.transforms import Transform, parted

from . import batch_size, batching
from .layouts import Layouts
from .readout import Readout, Take, pooled_state, token_states

__all__ = ["Runtime"]

# For jobs of at least this many default batches the best batch size is measured first, which takes about ten of them.
_PROBED_FROM = 64
# Content tokens of each text that is used to measure.
_PROBE_LENGTH = 100
# How many further batches a GPU is given before the result of the first is waited for.
_AHEAD = 2
# A shared prefix is run once if it is at least 1 token in 24 of a sequence; below, copying its keys and values to every
# row costs more than it saves.
_PREFIX_PAYS = 24
# Speed-ups that replace layers or leave out tokens, so that not every layer's states are there.
_NOT_AT_EXITS = ("fused_layers", "last_layer")


class Runtime:
    """The engine for one device: backbone, tokenizer and config together.

    Args:
        loaded: the model, on its device.
        config: what to run.
        options: how to run it, ``None`` for the defaults; only speed-ups, ``compiled`` and ``batch_tokens`` are used.
        spec: where the model came from; only needed for its unembedding matrix.

    Raises:
        ConfigError: the config was trained with a packaged adapter that is not merged into the model.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        config: EchoConfig,
        options: EncoderOptions | None = None,
        spec: ModelSpec | None = None,
    ) -> None:
        if config.packaged_adapter not in (None, loaded.merged):
            raise ConfigError(
                f"the config was trained with the packaged adapter {config.packaged_adapter!r}, which is not merged "
                "into this model; load the model with EchoEncoder(), or use config='zero-shot' or 'late-echo'"
            )
        options = options or EncoderOptions()
        self._loaded, self._spec = loaded, spec
        self.tokenizer = EchoTokenizer(loaded.tokenizer)
        self.speed = switches.apply(loaded, off=options.off, compiled=options.compiled)
        text_config = loaded.body.config.get_text_config()
        layers = config.layers(text_config.num_hidden_layers)
        require_weights(loaded, layers.exit)
        self.backbone = Backbone(loaded.body, layers, self.speed)
        self._budget: int | None = options.batch_tokens
        # One batch at a time: two would only compete for the same cores or the same memory.
        self._lock = ForkLock("was running a batch")
        self._forks = forks()
        self._configure(config)

    def _configure(self, config: EchoConfig) -> None:
        self.config = config
        self._layouts = Layouts(self.tokenizer, self._loaded.body.config, self.backbone.layers, config.max_length)
        #: Transforms that map the pooled state, and those at the end that also truncate the lexical part beside it.
        self.maps, self.truncations = parted(config.transforms)
        self.dimension = config.dimension(self.backbone.dimension)

    @property
    def merged_adapter(self) -> str | None:
        """The packaged adapter that is merged into the weights, by its name."""
        return self._loaded.merged

    def with_config(self, config: EchoConfig) -> Runtime | None:
        """A runtime with the same weights for another config; ``None`` if it needs other layers or weights."""
        layers = self.backbone.layers
        if config.layers(layers.depth) != layers or config.packaged_adapter != self.config.packaged_adapter:
            return None
        other = copy.copy(self)
        other._configure(config)  # noqa: SLF001 - a copy of itself
        return other

    def layout(self, template: Template, instruction: str | None = None) -> Layout:
        """The compiled template. Warns once if a sliding window can hide part of the first copy."""
        return self._layouts.of(template, instruction)

    def limit(self, role: Role, instruction: str | None = None) -> int:
        """The most content tokens of a text: ``max_length``, or fewer if the copies would not fit the context."""
        return self.limit_of(self.layout(self.config.template_for(role), instruction))

    def limit_of(self, layout: Layout) -> int:
        """The most content tokens of a text in this compiled template.

        Raises:
            ConfigError: the template alone fills the model's context.
        """
        return self._layouts.limit(layout)

    def tokenize(self, texts: Sequence[str], role: Role) -> list[int]:
        """Count the content tokens of each text, before truncation."""
        return self.tokenizer.count(texts, spaced=self.config.template_for(role).spaced)

    def contents(self, texts: Sequence[str], template: Template, instruction: str | None) -> list[Content]:
        """Tokenise texts, truncated to the most content tokens that fit with this template."""
        limit = self.limit_of(self.layout(template, instruction))
        return self.tokenizer.contents(texts, spaced=template.spaced, limit=limit)

    def embed(
        self,
        texts: Sequence[str],
        role: Role,
        instruction: str | None,
        truncation: TruncationCount,
        advance: Callable[[int], object] = lambda _: None,
        readout: Readout = "text",
    ) -> Any:
        """Embed texts, one chunk of ``CHUNK`` texts after another; see ``Engine.embed``."""
        template = self.config.template_for(role)
        layout = self.layout(template, instruction)
        chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        tokenize = partial(self.contents, template=template, instruction=instruction)
        found: Any = [None] * len(texts)
        if readout == "text":
            found = np.empty((len(texts), self.dimension), dtype=np.float32)
        for i, (chunk, contents) in enumerate(zip(chunks, _ahead(tokenize, chunks), strict=True)):
            truncation.add(chunk, contents, self.limit_of(layout))
            some = self.read_out(readout, chunk, contents, layout, role, advance)
            found[i * CHUNK : i * CHUNK + len(some)] = some
        return found

    def read_out(
        self,
        readout: Readout,
        texts: Sequence[str],
        contents: Sequence[Content],
        layout: Layout,
        role: Role,
        on_done: Callable[[int], object] = lambda _: None,
    ) -> Any:
        """Embed texts that are tokenised already; the result is that of ``Engine.embed``."""
        of_texts = self.vectors if readout == "text" else self.token_vectors
        return of_texts(texts, contents, layout, role, on_done)

    def vectors(
        self,
        texts: Sequence[str],
        contents: Sequence[Content],
        layout: Layout,
        role: Role,
        on_done: Callable[[int], object] = lambda _: None,
    ) -> Vectors:
        """One vector for each text: transforms applied, lexical part beside it, not of unit length.

        Args:
            texts: only used to name a text in an error.
            contents: their token ids, in the same order.
            layout: the compiled template.
            role: chooses the weight of the lexical part.
            on_done: called after each batch with the number of texts in it.

        Returns:
            float32 ``[n, dim]``.

        Raises:
            NumericalError: the model gave NaN or infinity; names the texts.
        """
        if self.config.lexical is None:
            return self.finished(self.states(texts, contents, layout, on_done), None)
        words = np.empty((len(contents), self.config.lexical.dimension), dtype=np.float32)

        def add_words(group: list[int]) -> None:
            words[group] = self.words([contents[i].ids for i in group], role)

        # Between batches and not in a thread, which would hold the interpreter lock while the GPU waits for work.
        return self.finished(self.states(texts, contents, layout, on_done, add_words), words)

    def token_vectors(
        self,
        texts: Sequence[str],
        contents: Sequence[Content],
        layout: Layout,
        role: Role,
        on_done: Callable[[int], object] = lambda _: None,
    ) -> list[TokenEmbeddings]:
        """One vector for each content token of each text, not of unit length; arguments as in :meth:`vectors`."""
        found: list[TokenEmbeddings | None] = [None] * len(texts)
        for group, rows in self._passes(contents, layout, token_states):
            for i, states in zip(group, rows.numpy(), strict=True):
                found[i] = self._of_tokens(texts[i], contents[i], states[: len(contents[i].ids)], role)
            on_done(len(group))
        return [one for one in found if one is not None]

    def states(
        self,
        texts: Sequence[str],
        contents: Sequence[Content],
        layout: Layout,
        on_done: Callable[[int], object] = lambda _: None,
        meanwhile: Callable[[list[int]], object] = lambda _: None,
    ) -> Vectors:
        """Pooled states before any transform: float32 ``[n, hidden]``; arguments as in :meth:`vectors`.

        ``meanwhile`` is called with each batch's indices into ``contents`` before the batch's result is waited for, so
        a GPU computes at the same time.
        """
        # With "last" pooling the last layer computes the pooled position only.
        layout = replace(layout, only_last=self.config.pooling == "last")
        states = np.empty((len(contents), self.backbone.dimension), dtype=np.float32)
        for group, rows in self._passes(contents, layout, pooled_state(self.config.pooling)):
            meanwhile(group)
            states[group] = rows.numpy()
            on_done(len(group))
        self._require_finite(states, texts)
        return states

    def states_at_exits(
        self, texts: Sequence[str], role: Role, advance: Callable[[int], object] = lambda _: None
    ) -> Vectors:
        """Pooled states at every exit layer, from one pass of the model, before any transform.

        Args:
            texts: longer ones are truncated to ``max_length``.
            role: which template they are laid into.
            advance: called after each batch with the number of texts in it.

        Returns:
            float32 ``[n, exits, hidden]``: after each layer from ``start_layer + 1`` without the final norm, and last
            of all after the last layer with it.

        Raises:
            ConfigError: the config leaves out layers, or a speed-up is on that replaces layers.
            NumericalError: the model gave NaN or infinity; names the texts.
        """
        layers, on = self.backbone.layers, [name for name in _NOT_AT_EXITS if self.speed[name].on]
        if layers.exit < layers.depth or on:
            raise ConfigError(
                "states at every exit need a config with exit_layer=None, and "
                f"speed={dict.fromkeys(_NOT_AT_EXITS, False)}"
            )
        template = self.config.template_for(role)
        contents, layout = self.contents(texts, template, None), self.layout(template)
        exits = layers.depth - layers.start + 1
        found = np.empty((len(texts), exits, self.backbone.dimension), dtype=np.float32)
        with every_exit(self.backbone, pooled_state(self.config.pooling)) as take:
            for group, rows in self._passes(contents, layout, take):
                found[group] = rows.numpy()
                advance(len(group))
        self._require_finite(found.reshape(len(texts), -1), texts)
        return found

    def words(self, contents: Sequence[Ids], role: Role) -> Vectors | None:
        """The lexical part of each text: ``[n, dim]``, of the length that the role gives it; ``None`` without one.

        It is made from token ids and not from texts: so tokens that are truncated count in neither part of the vector.
        """
        lexical = self.config.lexical
        return None if lexical is None else lexical.weight(role) * lexical.vectors(self.tokenizer.texts(contents))

    def finished(self, states: Vectors, words: Vectors | None, pooled: Vectors | None = None) -> Vectors:
        """Apply the config's transforms to states, and put the lexical part beside them.

        Args:
            states: ``[n, hidden]``.
            words: ``[n, dim]`` or ``[1, dim]``, from :meth:`words`; ``None`` for no lexical part.
            pooled: ``[n, hidden]`` or ``[1, hidden]``: states are divided by the length of these vectors before the
                lexical part is put beside them. ``None`` for the states themselves. Token vectors give their text's
                pooled state here.

        Returns:
            float32 ``[n, dim]``.
        """
        echo = _mapped(states, self.maps)
        if self.config.lexical is not None and words is not None:
            lengths = norms(echo if pooled is None else _mapped(pooled, self.maps))
            echo = np.divide(echo, lengths, dtype=np.float32, casting="same_kind")
            words = np.broadcast_to(words, (len(echo), words.shape[1]))
            echo = np.concatenate(self.config.lexical.beside(echo, words), axis=1)
        return _mapped(echo, self.truncations)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other thread run the backbone while the block runs it.

        Raises:
            WorkerError: this process was forked from the one that loaded the model, to which the GPU belongs.
        """
        if self._forks != forks() and self.backbone.device.type != "cpu":
            raise WorkerError(
                f"this process was forked after the model was loaded on {self.backbone.device}, and a forked process "
                "cannot use its parent's GPU; load the model after the fork, or start processes with the method 'spawn'"
            )
        with self._lock:
            yield

    def unembedding(self) -> Vectors:
        """The unembedding matrix ``[vocabulary, hidden]``, float32.

        Raises:
            ModelError: the model was given without it.
        """
        spec = self._spec or ModelSpec(self._loaded.body, self._loaded.tokenizer)
        matrix: Vectors = unembedding(spec, self._loaded.body)
        return matrix

    def describe(self) -> dict[str, str]:
        """Facts about how the model runs; see ``Engine.describe``."""
        model, layers = self.backbone.model, self.backbone.layers
        tokens = self._budget or batch_size.default_budget(self.backbone.device, self.backbone.dimension)
        facts = {
            "device": str(self.backbone.device),
            "dtype": str(model.dtype),
            "layers": f"{layers.exit} of {layers.depth}, the copy is made at {layers.start}",
            "batch": f"{tokens} tokens",
        }
        named = {f"speed: {name}": f"{'on' if switch else 'off'} ({switch.why})" for name, switch in self.speed.items()}
        return facts | named

    def close(self) -> None:
        """Do nothing: there are no worker processes."""

    def _passes(self, contents: Sequence[Content], layout: Layout, take: Take) -> Iterator[tuple[list[int], Arriving]]:
        """Run the model on batches; yields each batch's indices into ``contents``, and the result of ``take``."""
        lengths = [layout.total(len(content.ids)) for content in contents]
        budget, packs = self._tokens_a_batch(sum(lengths), layout), len(contents) > 1 and self._packs()
        overhead = batch_size.overhead_of(self.backbone.device, self.backbone.model.dtype, budget)
        groups = batching.fill(lengths, budget) if packs else batching.plan(lengths, budget, overhead)

        def compute(group: list[int]) -> torch.Tensor:
            ids = [contents[i].ids for i in group]
            if packs:
                batch = Batch.packed(ids, layout, self.backbone.device)
                return take(self._run(batch), batch)
            prefix, rest = self._split(layout, lengths[group[0]])
            batch = Batch.of(ids, rest, self.backbone.device)
            return take(self._run(batch, prefix), batch)

        return _behind(batching.run(groups, compute), _AHEAD if self.backbone.device.type == "cuda" else 0)

    def _of_tokens(self, text: str, content: Content, states: Vectors, role: Role) -> TokenEmbeddings:
        """The token vectors of one text, from the states of its content tokens ``[n, hidden]``."""
        self._require_finite(states.reshape(1, -1), [text])
        pool = POOLINGS[self.config.pooling]
        pooled = pool(torch.from_numpy(states)[None], torch.ones(1, len(states), dtype=torch.bool)).numpy()
        vectors = self.finished(states, self.words([content.ids], role), pooled)
        offsets = self.tokenizer.offsets(text, spaced=self.config.template_for(role).spaced)
        return TokenEmbeddings(self.tokenizer.tokens(content.ids), offsets[: len(content.ids)], vectors)

    def _tokens_a_batch(self, tokens: int, layout: Layout) -> int:
        """Tokens a batch: the user's number, else the default, else for a job of many ``tokens`` what was measured."""
        usual = batch_size.default_budget(self.backbone.device, self.backbone.dimension)
        if self._budget is None and tokens >= _PROBED_FROM * usual:
            layers, model = self.backbone.layers, self.backbone.model
            where = batch_size.machine(self.backbone.device)
            key = f"{where}, {type(model).__name__}, {self.backbone.dimension}, {layers}, {model.dtype}"
            self._budget = batch_size.remembered(
                key, lambda: batch_size.best_budget(usual, partial(self._probe, layout))
            )
        return self._budget or usual

    def _probe(self, layout: Layout, tokens: int) -> None:
        """Run one batch of about ``tokens`` tokens, made of texts of ``_PROBE_LENGTH`` tokens, and wait for it."""
        content = np.arange(1, _PROBE_LENGTH + 1)
        rows = max(1, tokens // layout.total(_PROBE_LENGTH))
        self._run(Batch.of([content] * rows, layout, self.backbone.device))[:1, :1].cpu()

    def _packs(self) -> bool:
        with self.alone():
            return self.backbone.packs

    def _split(self, layout: Layout, tokens: int) -> tuple[tuple[int, ...], Layout]:
        """The template's prefix, and the layout that follows it; no prefix if running it once would not pay.

        Args:
            layout: the compiled template.
            tokens: length of the longest sequence in the batch.
        """
        prefix = layout.literals[0]
        pays = len(prefix) * _PREFIX_PAYS >= tokens and self.backbone.takes_prefix
        return (prefix, layout.without_prefix()) if pays else ((), layout)

    def _run(self, batch: Batch, prefix: tuple[int, ...] = ()) -> torch.Tensor:
        with self.alone(), torch.inference_mode():
            return self.backbone(batch, prefix)

    def _require_finite(self, vectors: Vectors, texts: Sequence[str]) -> None:
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            named = ", ".join(repr(texts[i][:60]) for i in broken[:3])
            raise NumericalError(
                f"the model gave NaN or infinity for {len(broken)} of {len(texts)} texts, among them {named}; "
                f"it ran in {self.backbone.model.dtype}: try dtype='float32' (or 'bfloat16' instead of 'float16')"
            )


def _behind(batches: Iterator[tuple[list[int], torch.Tensor]], count: int) -> Iterator[tuple[list[int], Arriving]]:
    """Yield each batch's result only after ``count`` later batches were started, so that a GPU never waits for work."""
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


def _ahead(
    tokenize: Callable[[Sequence[str]], list[Content]], chunks: Sequence[Sequence[str]]
) -> Iterator[list[Content]]:
    """Tokenise chunks of texts, each in a thread while the model runs on the chunk before it."""
    if len(chunks) < 2:
        yield from map(tokenize, chunks)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="echo-embeddings-tokenizer") as thread:
        coming, before = thread.submit(tokenize, chunks[0]), forks()
        for i, chunk in enumerate(chunks):
            ready = coming.result() if forks() == before else tokenize(chunk)  # a forked process has not that thread
            if i + 1 < len(chunks):
                coming = thread.submit(tokenize, chunks[i + 1])
            yield ready
