"""Run a loaded model on one device, from texts to vectors. A runtime knows no files and no frameworks."""

from __future__ import annotations

import copy
from collections import Counter, deque
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
from echo_embeddings.text.inputs import portions
from echo_embeddings.text.layout import Content, Ids, Layout
from echo_embeddings.text.stretches import Stretch, for_chunks, for_texts, for_tokens
from echo_embeddings.text.template import Template
from echo_embeddings.text.tokenizer import EchoTokenizer
from echo_embeddings.text.truncation import TruncationCount
from echo_embeddings.types import Role, TokenEmbeddings, Vectors
from echo_embeddings.vectors.normalize import norms
from echo_embeddings.vectors.transforms import Transform, parted

from . import batch_size, batching
from .layouts import Layouts
from .readout import Readout, Take, part_states, pooled_state, token_states

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
        options: how to run it, ``None`` for the defaults; only speed-ups, ``compiled``, ``batch_tokens`` and whether
            ``on_truncate`` is ``"split"`` are used.
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
        self._splits = options.on_truncate == "split"
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

    def tokenised(
        self, texts: Sequence[str], template: Template, instruction: str | None, spans: Sequence[Ids] | None = None
    ) -> list[Content]:
        """Tokenise texts for :meth:`read_out`: all of each text with chunks or ``on_truncate="split"``.

        Args:
            texts: any texts.
            template: what they are laid into.
            instruction: the task.
            spans: the chunks of each text, for the readout ``"chunks"``; int64 ``[n, 2]``, in characters.
        """
        if spans is not None:
            return self.tokenizer.chunked(texts, spans, spaced=template.spaced)
        if self._splits:
            return self.tokenizer.contents(texts, spaced=template.spaced)
        return self.contents(texts, template, instruction)

    def embed(
        self,
        texts: Sequence[str],
        role: Role,
        instruction: str | None,
        truncation: TruncationCount,
        advance: Callable[[int], object] = lambda _: None,
        readout: Readout = "text",
        spans: Sequence[Ids] | None = None,
    ) -> Any:
        """Embed texts, one portion after another; see ``Engine.embed``."""
        template = self.config.template_for(role)
        layout = self.layout(template, instruction)

        def tokenize(portion: slice) -> list[Content]:
            own = None if spans is None else spans[portion]
            return self.tokenised(texts[portion], template, instruction, own)

        found: Any = [None] * len(texts)
        if readout == "text":
            found = np.empty((len(texts), self.dimension), dtype=np.float32)
        some = portions(texts)
        for portion, contents in zip(some, _ahead(tokenize, some), strict=True):
            truncation.add(texts[portion], contents, self.limit_of(layout))
            found[portion] = self.read_out(readout, texts[portion], contents, layout, role, advance)
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
        how = {"text": self.vectors, "tokens": self.token_vectors, "chunks": self.chunk_vectors}
        return how[readout](texts, contents, layout, role, on_done)

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
            contents: their token ids, in the same order. A text with more than :meth:`limit_of` is read in stretches
                side by side, and its state is the mean of theirs, weighted by their tokens.
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
        """One vector for each content token of each text, not of unit length; arguments as in :meth:`vectors`.

        A long text is read in stretches that overlap (``stretches.for_tokens``).
        """
        found: list[TokenEmbeddings | None] = [None] * len(texts)
        stretches = for_tokens(contents, self.limit_of(layout))
        coming, states = _Coming(stretches), {}
        for group, rows in self._passes([one.content for one in stretches], layout, token_states):
            for i, row in zip(group, rows.numpy(), strict=True):
                text, start, (part,) = stretches[i].text, stretches[i].first, stretches[i].parts
                if text not in states:
                    states[text] = np.empty((len(contents[text].ids), row.shape[1]), dtype=np.float32)
                states[text][start + part.first : start + part.stop] = row[part.first : part.stop]
            done = coming.done(group)
            for i in done:
                found[i] = self._of_tokens(texts[i], contents[i], states.pop(i), role)
            on_done(len(done))
        return [one for one in found if one is not None]

    def chunk_vectors(
        self,
        texts: Sequence[str],
        contents: Sequence[Content],
        layout: Layout,
        role: Role,
        on_done: Callable[[int], object] = lambda _: None,
    ) -> list[Vectors]:
        """One vector for each chunk of each text, not of unit length; arguments as in :meth:`vectors`.

        A chunk is pooled, mapped and given its words as a text is, from the states of its own tokens
        (``stretches.for_chunks``). Of token states no more is kept than a batch.

        Returns:
            For each text float32 ``[chunks, dim]``.
        """
        stretches = for_chunks(contents, self.limit_of(layout), self.tokenizer.stand_in)
        chunks = [_ids_of_chunks(content, self.tokenizer.stand_in) for content in contents]
        ends = np.cumsum([len(ids) for ids in chunks])
        states = _zeros(int(ends[-1]), self.backbone.dimension)
        lexical, coming = self.config.lexical, _Coming(stretches)
        words = np.empty((len(states), 0 if lexical is None else lexical.dimension), dtype=np.float32)
        on_done(len(contents) - coming.texts)

        def take_of(group: list[int]) -> Take:
            return part_states(self.config.pooling, [stretches[i] for i in group], layout)

        for group, rows in self._runs([one.content for one in stretches], layout, take_of):
            for text in () if lexical is None else coming.begun(group):
                words[ends[text] - len(chunks[text]) : ends[text]] = self.words(chunks[text], role)
            parts = [part for i in group for part in stretches[i].parts]
            shares = np.array([part.share for part in parts], dtype=np.float32)
            np.add.at(states, [part.of for part in parts], shares[:, None] * rows.numpy())
            on_done(len(coming.done(group)))
        self._require_finite(states, [text for text, ids in zip(texts, chunks, strict=True) for _ in ids], "chunks")
        return np.split(self.finished(states, words), ends[:-1])

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
        limit = self.limit_of(layout)
        if any(len(content.ids) > limit for content in contents):
            return self._states_by_stretches(texts, contents, layout, on_done, meanwhile)
        states = np.empty((len(contents), self.backbone.dimension), dtype=np.float32)
        for group, rows in self._passes(contents, layout, pooled_state(self.config.pooling)):
            meanwhile(group)
            states[group] = rows.numpy()
            on_done(len(group))
        self._require_finite(states, texts)
        return states

    def _states_by_stretches(
        self,
        texts: Sequence[str],
        contents: Sequence[Content],
        layout: Layout,
        on_done: Callable[[int], object],
        meanwhile: Callable[[list[int]], object],
    ) -> Vectors:
        """:meth:`states` where a text is too long to be read at once."""
        stretches = for_texts(contents, self.limit_of(layout))
        coming, states = _Coming(stretches), _zeros(len(contents), self.backbone.dimension)
        for group, rows in self._passes([one.content for one in stretches], layout, pooled_state(self.config.pooling)):
            meanwhile(coming.begun(group))
            shares = np.array([stretches[i].parts[0].share for i in group], dtype=np.float32)
            np.add.at(states, [stretches[i].text for i in group], shares[:, None] * rows.numpy())
            on_done(len(coming.done(group)))
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
        if getattr(self.tokenizer.source, "chat_template", None):
            special = any(template.special for template in self.config.templates)
            facts["chat template"] = (
                "applied" if special else "not applied; Template.from_chat makes a template with it"
            )
        named = {f"speed: {name}": f"{'on' if switch else 'off'} ({switch.why})" for name, switch in self.speed.items()}
        return facts | named

    def close(self) -> None:
        """Do nothing: there are no worker processes."""

    def _passes(self, contents: Sequence[Content], layout: Layout, take: Take) -> Iterator[tuple[list[int], Arriving]]:
        """Run the model on batches; yields each batch's indices into ``contents``, and the result of ``take``."""
        return self._runs(contents, layout, lambda _: take)

    def _runs(
        self, contents: Sequence[Content], layout: Layout, take_of: Callable[[list[int]], Take]
    ) -> Iterator[tuple[list[int], Arriving]]:
        """:meth:`_passes` with a ``Take`` of its own for each batch, made from the batch's indices."""
        lengths = [layout.total(len(content.ids)) for content in contents]
        budget, packs = self._tokens_a_batch(sum(lengths), layout), len(contents) > 1 and self._packs()
        overhead = batch_size.overhead_of(self.backbone.device, self.backbone.model.dtype, budget)
        groups = batching.fill(lengths, budget) if packs else batching.plan(lengths, budget, overhead)

        def compute(group: list[int]) -> torch.Tensor:
            ids, take = [contents[i].ids for i in group], take_of(group)
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
        vocabulary = self.backbone.model.get_input_embeddings().num_embeddings
        content = np.arange(1, _PROBE_LENGTH + 1) % vocabulary  # a tiny model may have fewer
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

    def _require_finite(self, vectors: Vectors, texts: Sequence[str], what: str = "texts") -> None:
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            named = ", ".join(repr(texts[i][:60]) for i in broken[:3])
            raise NumericalError(
                f"the model gave NaN or infinity for {len(broken)} of {len(texts)} {what}, among them {named}; "
                f"it ran in {self.backbone.model.dtype}: {_instead_of(self.backbone.model.dtype)}"
            )


def _instead_of(dtype: torch.dtype) -> str:
    """What to do about numbers that are not finite."""
    if dtype in (torch.float32, torch.float64):
        return "so its weights may be damaged or incomplete; load them anew, or try another model"
    return "try dtype='float32' (or 'bfloat16' instead of 'float16')"


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


class _Coming:
    """Which texts have begun and which are done, where a text is read in several stretches."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self._text_of = [one.text for one in stretches]
        self._left = Counter(self._text_of)
        self._begun: set[int] = set()
        #: How many texts have stretches.
        self.texts = len(self._left)

    def begun(self, group: list[int]) -> list[int]:
        """The texts that begin with this batch of stretches."""
        new = [text for text in dict.fromkeys(self._text_of[i] for i in group) if text not in self._begun]
        self._begun.update(new)
        return new

    def done(self, group: list[int]) -> list[int]:
        """The texts that have no more stretches after this batch."""
        own = [self._text_of[i] for i in group]
        self._left.subtract(own)
        return [text for text in dict.fromkeys(own) if not self._left[text]]


def _zeros(rows: int, width: int) -> Vectors:
    """Sums to begin with. To add a number to -0.0 gives that very number, the sign of a zero too."""
    return np.full((rows, width), -0.0, dtype=np.float32)


def _ids_of_chunks(content: Content, stand_in: int) -> list[Ids]:
    """The token ids of each chunk of a text, for its words."""
    empty = np.array([stand_in], dtype=np.int64)
    return [content.ids[first:stop] if first < stop else empty for first, stop in content.chunks]


def _ahead(tokenize: Callable[[slice], list[Content]], portions: Sequence[slice]) -> Iterator[list[Content]]:
    """Tokenise portions of texts, each in a thread while the model runs on the portion before it."""
    if len(portions) < 2:
        yield from map(tokenize, portions)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="echo-embeddings-tokenizer") as thread:
        coming, before = thread.submit(tokenize, portions[0]), forks()
        for i, portion in enumerate(portions):
            ready = coming.result() if forks() == before else tokenize(portion)  # a forked process has not that thread
            if i + 1 < len(portions):
                coming = thread.submit(tokenize, portions[i + 1])
            yield ready
