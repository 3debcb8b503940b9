"""The public class ``EchoEncoder``: texts in, float32 unit vectors out. An encoder knows no framework.

What happens to a text: it is checked, tokenised once, put into its role's template, run in a batch of texts of similar
length, pooled over its last copy, mapped by the fitted transforms, joined with its lexical part if the config has one,
scaled to unit length, and returned in the caller's order.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from . import notices
from .config.config import EchoConfig, Length
from .config.summary import fixed_dimension, short_name
from .defaults import Choice, choice_for, known_choice, known_width, loss, why_not
from .engine.awaited import Awaited
from .engine.progress import Progress, progress
from .errors import ConfigError, InputError, LeftOutWarning, ModelError, warn
from .forking import ForkLock
from .model.device import checked_devices, computed_in, pick_device
from .model.spec import ModelSpec
from .options import EncoderOptions
from .saving import folder_at, save
from .text.inputs import CHUNK, Column, checked
from .text.inputs import chunks as texts_in
from .text.layout import Ids
from .text.spans import Chunker, Spans, char_spans, checked_spans, require_chunks
from .text.truncation import Truncated, TruncationCount
from .types import DTYPES, Role, TokenEmbeddings, Vectors, require_chunking
from .types import width as width_of
from .vectors.normalize import unit
from .vectors.precision import Ranges, reduced, restored
from .vectors.transforms import Transform, Truncate, fit, left_out, parted

if TYPE_CHECKING:
    from typing_extensions import Self

    from .engine.engine import Engine
    from .engine.runtime import Runtime

__all__ = ["EchoEncoder"]

_log = logging.getLogger(__name__)


class EchoEncoder:
    """Text embeddings from a causal language model that reads the text twice.

    The model is loaded at the first call that needs it. An encoder always gives a text the same vector, may be used
    from several threads, and can be pickled: the weights are then loaded again, not copied.

    Args:
        model: ``None`` for the built-in SmolLM2-135M-Instruct, a hub id, a folder, a ``.gguf`` file, or a loaded
            transformers model (then ``tokenizer`` is needed; the model is switched to ``eval()`` and not changed).
        config: an ``EchoConfig`` or the name of a preset (``EchoConfig.preset``). ``None`` takes the config that is
            saved with the model; else ``"default"`` for the built-in model (``"zero-shot"`` with an ``adapter``), and
            for any other model a recipe that was measured for it or the rule ``"any-model"``, which is said once.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; ``None`` takes the best device of the machine.
        dtype: ``"auto"`` (bfloat16 on machines that are fast at it, else float32), a torch dtype, or ``"int8"``: like
            ``"auto"``, but the decoder layers' weights have 8 bits (with the built-in model, the cosine between the
            vectors of both is over 0.99).
        tokenizer: a fast tokenizer, for a loaded model.
        adapter: hub id or folder of a PEFT adapter to merge into the weights; not together with a config that has one.
        devices: several devices, such as ``["cuda:0", "cuda:1"]`` or ``["cpu", "cpu"]``: a worker process for each
            takes a share of a call's texts. The workers start at the first text, and end with :meth:`close`, with the
            ``with`` block, or with the encoder; this process loads no weights. A script that uses ``devices`` needs
            ``if __name__ == "__main__":``.
        dimensions: keep only the first dimensions of each vector; ``None`` for all. The default config is made for 512
            and 256; other lengths give a ``DimensionsWarning``.
        precision: how many bytes a number of a vector has: ``"float32"`` (the default), ``"float16"``, ``"int8"``
            (``[n, dim]``, from -128 to 127; needs a config with ranges, see :meth:`fit_ranges`) or ``"ubinary"`` (a bit
            a dimension: uint8 ``[n, dim / 8]``). They mean what they mean in sentence-transformers, except that with
            words beside the echo vectors are turned before their bits are taken (``EchoConfig.turns_bits``). What each
            costs in quality stands in docs/guides/smaller-vectors.md.
        max_length: the most content tokens of a text that are read at once; ``"context"`` for as many as fit the
            model's context, ``None`` for the config's.
        on_truncate: what to do with longer texts. ``"warn"`` once a call, raise an ``"error"``, or ``"ignore"``: the
            rest of the text is left out, and :attr:`truncated` counts it. ``"split"``: nothing is left out; the text is
            read in as few stretches of at most ``max_length`` tokens as possible, one behind the other, and its vector
            is made from the mean of their states, weighted by their tokens, with the words of all of it.
        compiled: let torch compile the layers. It takes about half a minute, once on each machine, and makes later
            calls faster; worth it for thousands of texts.
        batch_tokens: tokens a batch, padding included; ``None`` for a number that suits the machine.
        speed: optional speed-ups to switch off, such as ``{"block_attention": False}``, or ``False`` for all of them.
            Vectors change by rounding only. :meth:`describe` lists them.
        model_kwargs: for transformers' ``from_pretrained``: ``revision``, ``device_map``, ``quantization_config``, ...

    Raises:
        ConfigError: the config is unknown or cannot work.
        TypeError: an argument has the wrong type.
    """

    _engine: Engine | None
    _copy: Runtime | None
    _weights: str | None
    _faults: dict[tuple[float, float | None], str]
    _awaited: Awaited[Vectors]

    def __init__(  # noqa: PLR0913 - all but the first four by name
        self,
        model: Any = None,
        config: EchoConfig | str | None = None,
        device: str | None = None,
        dtype: Any = "auto",
        *,
        tokenizer: Any = None,
        adapter: str | os.PathLike[str] | None = None,
        devices: Sequence[str] | None = None,
        dimensions: int | None = None,
        precision: str = "float32",
        max_length: Length | None = None,
        on_truncate: str = "warn",
        compiled: bool = False,
        batch_tokens: int | None = None,
        speed: dict[str, bool] | bool | None = None,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        is_named = model is None or isinstance(model, str | os.PathLike)
        options = EncoderOptions(
            model=model if is_named else None,
            config=config,
            adapter=adapter,
            dimensions=dimensions,
            precision=precision,
            max_length=max_length,
            device=device,
            devices=devices,
            dtype=dtype,
            compiled=compiled,
            speed=speed,
            batch_tokens=batch_tokens,
            on_truncate=on_truncate,
            model_kwargs=model_kwargs or {},
        )
        self._set_up(options, None if is_named else model, tokenizer)

    @classmethod
    def from_options(cls, options: EncoderOptions) -> EchoEncoder:
        """Make the encoder that these options describe. Nothing is loaded yet.

        Raises:
            ConfigError: an option cannot work, such as a device that the machine does not have.
        """
        encoder = object.__new__(cls)
        encoder._set_up(options, None, None)
        return encoder

    def _set_up(self, options: EncoderOptions, loaded: Any, tokenizer: Any) -> None:
        self._spec = ModelSpec(
            options.model if loaded is None else loaded,
            tokenizer,
            None if options.adapter is None else os.fspath(options.adapter),
            options.device,
            options.dtype,
            dict(options.model_kwargs),
        )
        if loaded is not None and options.compiled:
            raise TypeError("compiled= goes with a model's name; a loaded model is not changed, so compile it yourself")
        if options.devices is not None:
            devices = checked_devices(options.devices, self._spec)
            self._spec = replace(self._spec, device=devices[0])
        self._options = options
        given = options.config
        self._config = None if not isinstance(given, EchoConfig) else options.applied_to(given)
        self._notice = ""
        # What cannot work raises its error now, not at the first text.
        if self._config is not None:
            self._spec.for_config(self._config)
            if isinstance(given, EchoConfig) and options.dimensions is None:
                given.warn_of(given.shortened_to)
            if lost := loss(self._spec, self._config):
                warn(LeftOutWarning(lost))
        elif options.adapter is not None:
            self._spec.for_config(EchoConfig.preset("zero-shot"))
        if options.dimensions is not None or self._config is not None:
            self._check_dimensions()
        if options.precision == "int8" and (known := self.known_config) is not None and known.ranges is None:
            raise _no_ranges()
        self._truncated = Truncated()
        self.__setstate__(vars(self))

    def encode_documents(self, texts: str | Sequence[str] | Column, *, show_progress: Progress = False) -> Vectors:
        """Embed the texts of a collection to search in, or texts to compare with one another.

        Args:
            texts: one text, or a sequence of texts: a list, a tuple, a column (pandas, polars, Arrow, datasets) or a
                numpy array with one dimension. A text may be empty: it gets a vector like any other.
            show_progress: ``True`` for a progress bar, or a function to call with the number of texts in each finished
                batch; ``False`` (the default) for neither.

        Returns:
            float32 ``[n, dim]`` of unit length, in the order given; ``[dim]`` for one text; ``[0, dim]`` for ``[]``.
            With another ``precision`` its dtype, and with ``"ubinary"`` its width.

        Raises:
            TypeError: ``texts`` is no sequence (a table, a dict, a set, a file, a generator, ...), and the message says
                what to pass instead; or an element is not a string, and the message names its position.
            TruncationError: a text is too long and ``on_truncate="error"``.
            NumericalError: the model or a transform gave NaN or infinity; names the texts.
            WorkerError: a worker process of ``devices`` ended before its work was done.
        """
        return self._encode(texts, "document", None, show_progress=show_progress)

    def encode_queries(
        self, texts: str | Sequence[str] | Column, *, instruction: str | None = None, show_progress: Progress = False
    ) -> Vectors:
        """Embed search queries: like :meth:`encode_documents`, but with the query template.

        Args:
            texts: as in :meth:`encode_documents`.
            instruction: the task, for a template with ``{instruction}``; ``None`` (the default) for other templates.
            show_progress: as in :meth:`encode_documents`.

        Returns:
            As :meth:`encode_documents`.

        Raises:
            ConfigError: the template has no ``{instruction}`` but one is given, or it has one and none is given.
        """
        return self._encode(texts, "query", instruction, show_progress=show_progress)

    async def aencode_documents(self, texts: str | Sequence[str] | Column) -> Vectors:
        """Await :meth:`encode_documents`: same texts, vectors and errors, and the event loop is never blocked.

        A single text starts at once if the model is idle; single texts that arrive while it is busy make the next
        batch. So a busy server gets batches, and a query on an idle one does not wait. A list runs as its own call, in
        a thread.
        """
        if not isinstance(texts, str):
            return await asyncio.to_thread(self.encode_documents, texts)
        return await self._awaited(texts, self.encode_documents, "documents")

    async def aencode_queries(self, texts: str | Sequence[str] | Column, *, instruction: str | None = None) -> Vectors:
        """Await :meth:`encode_queries`; see :meth:`aencode_documents`."""
        if not isinstance(texts, str):
            return await asyncio.to_thread(self.encode_queries, texts, instruction=instruction)
        encode = partial(self.encode_queries, instruction=instruction)
        return await self._awaited(texts, encode, ("queries", instruction))

    def stream_documents(
        self, texts: Iterable[str] | Column, *, chunk: int = CHUNK, show_progress: Progress = False
    ) -> Iterator[Vectors]:
        """Embed documents from any iterable; yields one float32 vector ``[dim]`` at a time.

        Args:
            texts: any iterable of strings, such as a generator; it is never held in memory as a whole.
            chunk: how many texts are in memory and embedded together (default 4096).
            show_progress: as in :meth:`encode_documents`; the bar knows the end where ``len(texts)`` does.

        Raises:
            ConfigError: ``chunk`` is below 1.
        """
        return self._stream(texts_in(texts, chunk), "document", None, _length(texts), show_progress)

    def stream_queries(
        self,
        texts: Iterable[str] | Column,
        *,
        instruction: str | None = None,
        chunk: int = CHUNK,
        show_progress: Progress = False,
    ) -> Iterator[Vectors]:
        """Embed queries from any iterable: :meth:`stream_documents` with the query template."""
        return self._stream(texts_in(texts, chunk), "query", instruction, _length(texts), show_progress)

    @overload
    def encode_chunks(  # type: ignore[overload-overlap]  # a str comes first
        self, documents: str, chunks: Chunker | Spans, *, show_progress: Progress = False
    ) -> Vectors: ...

    @overload
    def encode_chunks(
        self, documents: Sequence[str] | Column, chunks: Chunker | Iterable[Spans], *, show_progress: Progress = False
    ) -> list[Vectors]: ...

    def encode_chunks(
        self,
        documents: str | Sequence[str] | Column,
        chunks: Chunker | Spans | Iterable[Spans],
        *,
        show_progress: Progress = False,
    ) -> Vectors | list[Vectors]:
        """Embed each chunk of a document from token states that have seen the document around it.

        This is late chunking (arXiv 2409.04701): the document is read as a whole, and only the tokens of the last copy
        are pooled chunk by chunk. What follows is as for a text: transforms, then the words of the chunk's own tokens.
        A chunk that is the whole document has the vector of the document. :meth:`encode_queries` makes the vectors to
        search with.

        A document with more than :attr:`max_length` tokens is read in stretches of so many that overlap by a sixteenth,
        and a chunk is taken from the stretch where it has most context on both sides; one that no stretch holds as a
        whole is pooled over its tokens in several. Nothing is truncated, whatever ``on_truncate`` is.

        Args:
            documents: one text, or texts as in :meth:`encode_documents`.
            chunks: the spans of the chunks, ``(start, end)`` in characters, the end exclusive: of the one text, or a
                list for each text. Or a function from a text to its spans, such as
                ``echo_embeddings.chunking.spans_of(splitter)``. Spans may overlap, and have any order. A token of which
                a span has one character belongs to it; the space before a word does not count. A span without tokens
                has the vector of an empty text.
            show_progress: as in :meth:`encode_documents`; it counts documents.

        Returns:
            For each document float32 ``[chunks, dim]`` of unit length, in the order of its spans.

        Raises:
            ConfigError: the config pools what follows the text (``Template(pool_tail=True)``), of which chunks have
                none.
            InputError: a span is no part of its document; the message names it.
            TypeError: a document is no string, or a span no pair of whole numbers.
        """
        if isinstance(documents, str):
            require_chunks(chunks)
            own = checked_spans(documents, chunks(documents) if callable(chunks) else chunks)
            return self.encode_chunks([documents], [own], show_progress=show_progress)[0]
        listed = checked(documents, streamed="stream_chunks")
        spans = char_spans(listed, chunks)
        with self._counting() as truncation, progress(len(listed), show_progress) as advance:
            return self._chunks(listed, spans, truncation, advance)

    def stream_chunks(
        self,
        documents: Iterable[str] | Column,
        chunks: Chunker | Iterable[Spans],
        *,
        at_once: int = 64,
        show_progress: Progress = False,
    ) -> Iterator[Vectors]:
        """Embed the chunks of documents from any iterable; yields float32 ``[chunks, dim]`` for one document at a time.

        Args:
            documents: any iterable of strings, such as a generator; it is never held in memory as a whole.
            chunks: as in :meth:`encode_chunks`; an iterable is read together with the documents.
            at_once: how many documents are in memory and embedded together (default 64).
            show_progress: as in :meth:`encode_chunks`.

        Raises:
            ConfigError: ``at_once`` is no whole number of at least 1; or as :meth:`encode_chunks`.
            InputError: ``chunks`` ends before the documents, or goes on after them; or as :meth:`encode_chunks`.
        """
        require_chunks(chunks)
        require_chunking(self)
        of_each = chunks if callable(chunks) else iter(chunks)
        some = texts_in(documents, at_once, "at_once")
        return self._stream_chunks(some, of_each, _length(documents), show_progress)

    @overload
    def encode_tokens(  # type: ignore[overload-overlap]  # a str comes first
        self, texts: str, *, role: Role = "document", instruction: str | None = None
    ) -> TokenEmbeddings: ...

    @overload
    def encode_tokens(
        self, texts: Sequence[str] | Column, *, role: Role = "document", instruction: str | None = None
    ) -> list[TokenEmbeddings]: ...

    def encode_tokens(
        self, texts: str | Sequence[str] | Column, *, role: Role = "document", instruction: str | None = None
    ) -> TokenEmbeddings | list[TokenEmbeddings]:
        """Embed each token of a text, at its place in the last copy, where it has seen the whole text.

        :meth:`encode_chunks` makes one vector of the tokens of each chunk. A lexical part is the same for every token:
        that of the whole text. With ``on_truncate="split"`` a long text is read in stretches that overlap, and each
        token is taken from the one where it has most context on both sides.

        Args:
            texts: as in :meth:`encode_documents`.
            role: ``"document"`` (the default) or ``"query"``: the template.
            instruction: as in :meth:`encode_queries`.

        Returns:
            A list of ``TokenEmbeddings`` in the order given; a single one for one text.
        """
        if role not in ("document", "query"):
            raise ConfigError(f"role={role!r} is unknown; choose document or query")
        listed = checked([texts] if isinstance(texts, str) else texts, streamed=None)
        unique = list(dict.fromkeys(listed))
        with self._counting() as truncation:
            found = self.engine.embed(unique, role, instruction, truncation, lambda _: None, "tokens")
        of = {
            text: replace(one, vectors=unit(one.vectors, one.tokens)) for text, one in zip(unique, found, strict=True)
        }
        return of[texts] if isinstance(texts, str) else [of[text] for text in listed]

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """Cosine similarity of this encoder's vectors: ``[n, dim]`` and ``[m, dim]`` give float32 ``[n, m]``.

        Those of a smaller ``precision`` are compared as what they stand for.
        """
        if self.precision != "float32":
            a, b = self.restored(a), self.restored(b)
        return np.asarray(np.asarray(a) @ np.asarray(b).T, dtype=np.float32)

    def restored(self, vectors: NDArray[Any]) -> Vectors:
        """This encoder's vectors of a smaller ``precision`` as unit vectors in float32, as near as can be.

        Args:
            vectors: ``[..., width]``, as :meth:`encode_documents` gives them.

        Returns:
            float32 ``[..., dim]``.

        Raises:
            InputError: they have another width; or the precision has whole numbers, and they have fractions, or numbers
                that it has not.
        """
        given = np.asarray(vectors)
        wanted = width_of(self.dimension, self.precision)
        is_whole = self.precision in ("int8", "ubinary")
        if given.ndim == 0 or given.shape[-1] != wanted or (is_whole and given.dtype.kind not in "iu"):
            raise InputError(
                f"vectors are {given.dtype} {list(given.shape)}, and those of precision={self.precision!r} are "
                f"{DTYPES[self.precision]} [..., {wanted}]; give vectors of this encoder"
            )
        if is_whole and given.size:
            least, most = np.iinfo(DTYPES[self.precision]).min, np.iinfo(DTYPES[self.precision]).max
            if given.min() < least or given.max() > most:
                raise InputError(
                    f"vectors have numbers from {given.min()} to {given.max()}, and those of "
                    f"precision={self.precision!r} are from {least} to {most}; give vectors of this encoder"
                )
        return restored(given, self.precision, self.dimension, self._ranges(), turns=self.config.turns_bits)

    @property
    def config(self) -> EchoConfig:
        """The config: everything besides the weights that defines a vector."""
        return self._config or self._chosen(choice_for(self._pinned()))

    @property
    def known_config(self) -> EchoConfig | None:
        """The config if it is known before anything is fetched or loaded.

        ``None`` for a hub id that has to be asked, and where the layers of the model have to be looked at.

        Raises:
            ConfigError: the config that is saved with the model cannot be used.
        """
        if self._config is None and (known := known_choice(self._spec)) is not None:
            return self._options.applied_to(known.config)
        return self._config

    @property
    def options(self) -> EncoderOptions:
        """The options that this encoder was made with; ``EchoEncoder.from_options`` makes another one like it."""
        return self._options

    @property
    def model_name(self) -> str:
        """Hub id, path, or the built-in model's name; for a loaded model its class and ``name_or_path``."""
        return self._spec.name

    @property
    def precision(self) -> str:
        """The precision of the vectors: ``"float32"``, ``"float16"``, ``"int8"`` or ``"ubinary"``."""
        return self._options.precision

    @property
    def computed_in(self) -> str:
        """Device and dtype, such as ``"cpu torch.bfloat16"``: with another value here, vectors differ by rounding."""
        return computed_in(self._spec.device, self._spec.dtype)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that its vectors depend on: a namespace for caches of vectors.

        That is :meth:`weights_fingerprint`, the names of model and adapter, ``dtype``, ``model_kwargs``, the config,
        ``precision``, and whether long texts are split.

        Raises:
            ModelError: the model's files cannot be read.
        """
        spec, kwargs = self._spec, self._options.model_kwargs
        parts = (spec.name, spec.adapter, str(spec.dtype), sorted(kwargs.items(), key=str))
        content: tuple[object, ...] = (parts, self.weights_fingerprint(), self.config.fingerprint())
        if self._options.on_truncate == "split":  # the other policies read the same tokens
            content = (*content, "split")
        if self.precision != "float32":
            content = (*content, self.precision)
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def weights_fingerprint(self) -> str:
        """SHA-256 (hex) of the weights, whatever they are called: for manifests that stand beside vectors.

        It changes when other weights are put under the same path, or when a hub id means another commit, and is the
        same for a copy elsewhere. Tokenizer, architecture and ``adapter`` count, the config does not. Nothing is
        loaded: of each tensor in the files only a sample is read, in some hundredths of a second.

        Raises:
            ModelError: the model's files cannot be read.
        """
        from .model.fingerprint import weights_fingerprint

        with self._lock:
            with suppress(ModelError):  # no such model; a fingerprint is asked for before anything is loaded
                self._pinned()
            found = self._weights or weights_fingerprint(self._spec)
            self._weights = None if self._spec.is_loaded else found  # a loaded model may be trained further
            return found

    @property
    def dimension(self) -> int:
        """Number of dimensions of a vector. Loads the model if needed."""
        return self.engine.dimension

    @property
    def max_length(self) -> int:
        """The most content tokens of a document: the config's ``max_length``, or fewer if the context is too small."""
        return self.engine.limit("document")

    @property
    def truncated(self) -> Truncated:
        """How many texts were truncated, and tokens left out, since this encoder was made.

        Long texts that ``on_truncate="split"`` or :meth:`encode_chunks` reads in stretches lose nothing, and do not
        count.
        """
        return self._truncated

    @property
    def engine(self) -> Engine:
        """The engine that turns texts into vectors, made at the first use. On one device that loads the model."""
        with self._lock:
            if self._engine is None:
                from .engine.engine import open_engine

                if self._config is None:
                    self._chosen(choice_for(self._pinned(), may_convert=True))
                self.config.warn_of(self._options.dimensions)

                known, self._weights = self._weights, None
                engine = open_engine(self._pinned(), self.config, self._options)
                loaded = None if self._spec.is_loaded else self.weights_fingerprint()
                if known not in (None, loaded):
                    engine.close()
                    raise ModelError(
                        f"the weights of {self.model_name!r} were replaced while they were loaded, or since this "
                        "encoder's fingerprint was asked for; make a new EchoEncoder"
                    )
                self._engine = engine
                if self._notice:
                    notices.say_once(_log, self._notice)
            return self._engine

    def _pinned(self) -> ModelSpec:
        """The model, bound to the commit that a hub id means at the first use."""
        if isinstance(self._spec.model, str):
            from .model.hub import pinned

            with self._lock:
                self._spec = pinned(self._spec)
        return self._spec

    @property
    def runtime(self) -> Runtime:
        """The loaded model with its tokenizer, backbone and layouts, for frameworks and experiments.

        With several ``devices`` the first use loads the model into this process too, on the first device.
        """
        from .engine.runtime import Runtime
        from .model.loading import load

        if isinstance(engine := self.engine, Runtime):
            return engine
        with self._lock:
            if self._copy is None:
                spec = self._spec.for_config(self.config)
                self._copy = Runtime(load(spec), self.config, self._options, spec)
            return self._copy

    def describe(self) -> str:
        """Lines of text, one fact each: model, device, dtype, layers, and which speed-ups are on or off, and why."""
        config = self.config
        document, query = config.templates
        facts = {
            "model": self.model_name,
            "config": short_name(config) + (" (nothing is saved with the model)" if self._notice else ""),
            "dimension": str(self.dimension),
            "precision": self.precision,
            "max_length": str(self.max_length),
            "document template": repr(document.text),
            "query template": repr(query.text),
            "pooling": config.pooling,
            "transforms": ", ".join(map(repr, config.transforms)) or "none",
            "words": "none" if config.lexical is None else repr(config.lexical),
        } | self.engine.describe()
        width = max(map(len, facts))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())

    def count_tokens(self, texts: str | Sequence[str] | Column) -> list[int]:
        """Count the content tokens of each text; a text with more than :attr:`max_length` would be truncated."""
        texts = checked([texts] if isinstance(texts, str) else texts, streamed=None)
        return self.engine.tokenize(texts, "document")

    def with_config(self, config: EchoConfig) -> EchoEncoder:
        """The same model with another config. Weights are shared if the same layers and adapters run, else reloaded.

        Raises:
            ConfigError: the config was trained with a packaged adapter, or fitted, for another model.
        """
        self._spec.for_config(config)
        other = object.__new__(EchoEncoder)
        # Both are in the config already.
        options = self._options.replace(config=config, dimensions=None, max_length=None)
        changed = {"_config": config, "_notice": "", "_options": options, "_truncated": Truncated()}
        other.__setstate__(self.__getstate__() | changed)
        with self._lock:
            if self._engine is not None:
                other._engine = self._engine.with_config(config)
        return other

    def why_not(self, config: EchoConfig) -> str:
        """Why this model cannot run a config with late echo, in words; empty if it can.

        Late echo cannot run on every architecture, such as those that keep a state instead of attending to tokens.
        No weights are loaded to find out; a hub is asked for the model's ``config.json`` at most.

        Raises:
            ModelError: there is no such model, or its ``config.json`` is damaged.
        """
        if not config.start_layer:
            return ""
        layers = config.start_layer, config.exit_layer  # nothing else of a config counts
        if layers not in self._faults or self._spec.is_loaded:  # a loaded model may be changed
            self._faults[layers] = why_not(self._pinned(), config)
        return self._faults[layers]

    def fit_transforms(
        self,
        texts: Sequence[str] | Column,
        transforms: Sequence[str | Transform] = ("standardize",),
        *,
        replace: bool = False,
    ) -> EchoEncoder:
        """Make a new encoder with transforms fitted on unlabelled texts; this encoder does not change.

        They take the place of those of the config, except that vectors keep the length that ``dimensions`` gave them,
        unless a ``Truncate`` is among the new ones. A lexical part is not mapped by them; only a ``Truncate`` at the
        end applies to it too. Beside fitted vectors it should be longer than beside raw ones: 1.0 in place of 0.5
        (``Lexical.weighted``; docs/guides/choose.md, "Words beside the echo").

        Args:
            texts: a list of texts like those that will be embedded; ``[]`` for transforms that need none.
            transforms: in order: ``"standardize"`` (the default), ``"whiten"``, ``"embed-filter"``, or transforms that
                are fitted already.
            replace: throw away a ``Project`` of the config. It may have been trained with the weights, as that of
                ``"default"`` was, and vectors are worse without it. So this is refused (``False``) unless you ask.

        Raises:
            ConfigError: a name is unknown; the config has a ``Project``; or there are too few texts that differ: it
                takes 6 for ``"standardize"``, and one more than there are dimensions for ``"whiten"``.
        """
        _, lengths = parted(self.config.transforms)
        if not any(isinstance(transform, Truncate) for transform in transforms):
            transforms = (*transforms, *lengths)
        if not replace and left_out(self.config.transforms, [one for one in transforms if isinstance(one, Transform)]):
            raise ConfigError(
                "fitted transforms would take the place of a map that may have been trained with the weights "
                "(Project), as that of the default config was, and vectors would be worse; keep it, fit on top of it: "
                "[*encoder.config.transforms, 'standardize'], start from an untrained config such as "
                "config='zero-shot' or 'late-echo', or say fit_transforms(..., replace=True)"
            )
        engine = self.engine  # one set of weights for all three encoders
        plain = self.with_config(self.config.replace(transforms=(), lexical=None))
        vectors = None
        if texts := checked(texts, streamed=None):
            with self._counting() as truncation:
                vectors = _embed(plain.engine, texts, "document", None, truncation)
        fitted = fit(transforms, vectors, engine.unembedding)
        if not left_out(self.config.transforms, fitted):
            return self.with_config(self.config.replace(transforms=fitted))
        return self.with_config(self.config.replace(transforms=()).replace(transforms=fitted))

    def fit_ranges(self, texts: Sequence[str] | Column) -> EchoEncoder:
        """Make a new encoder that knows the range of each dimension, for vectors with ``precision="int8"``.

        The ranges are part of its config, and saved with it. There are some for this encoder's dimension, and for the
        shorter ones that the config was made for. Vectors of other precisions do not change.

        Args:
            texts: some hundred texts like those that will be embedded. They are embedded as documents, and as queries
                where these have other vectors.

        Raises:
            ConfigError: there are fewer than two texts.
        """
        plain, listed = self.with_precision("float32"), checked(texts, streamed=None)
        if len(listed) < 2:
            raise ConfigError(f"fit_ranges needs some hundred texts, at least 2, not {len(listed)}")
        roles = [plain.encode_documents]
        if self.config.tells_roles_apart:
            roles.append(plain.encode_queries)
        vectors = np.concatenate([encode(listed) for encode in roles])
        return self.with_config(self.config.replace(ranges=Ranges.fit(vectors, self.config.trained_dimensions)))

    def with_precision(self, precision: str) -> EchoEncoder:
        """The same model and config, with vectors of another precision. Weights are shared.

        Args:
            precision: as for the constructor.

        Raises:
            ConfigError: it is unknown, or the config has no ranges and it is ``"int8"``.
        """
        if precision == "int8" and self.config.ranges is None:
            raise _no_ranges()
        other = object.__new__(EchoEncoder)
        options = self._options.replace(precision=precision)
        other.__setstate__(self.__getstate__() | {"_options": options, "_truncated": Truncated()})
        with self._lock:
            other._engine = self._engine
        return other

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write the weights (the layers that run, adapters merged), the tokenizer and ``echo_config.json`` to a folder.

        ``EchoEncoder(path)`` loads it; where sentence-transformers-echo is installed,
        ``SentenceTransformer(path, trust_remote_code=True)`` does too.

        Args:
            path: the folder; it need not exist yet.

        Raises:
            ConfigError: ``path`` is a file, or the weights are in int8.
        """
        with notices.loading_bars():
            save(folder_at(path), self.runtime)

    def close(self) -> None:
        """End the worker processes of ``devices``, if there are any; a later call starts new ones.

        A call that is running in another thread ends with a ``WorkerError``.
        """
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_spec", "_options", "_config", "_notice", "_truncated")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = ForkLock("was loading the model")
        self._engine = None
        self._copy = None
        self._weights = None
        self._faults = {}
        self._awaited = Awaited()

    def __repr__(self) -> str:
        """What it is in one line. Nothing is loaded or asked for, so a config that was not read yet is ``None``."""
        config = self._config
        if config is None and self._spec.model is None:
            config = self.config
        facts: dict[str, Any] = {
            "config": None if config is None else short_name(config),
            "device": self._spec.device or pick_device(None),
            "dtype": str(self._spec.dtype).removeprefix("torch."),
        }
        if config is not None and (dimension := fixed_dimension(config)) is not None:
            facts["dimension"] = dimension
        named = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        return f"EchoEncoder({self.model_name!r}, {named})"

    def _encode(
        self,
        texts: str | Sequence[str] | Column,
        role: Role,
        instruction: str | None,
        *,
        show_progress: Progress = False,
    ) -> Vectors:
        if isinstance(texts, str):
            alone: Vectors = self._encode([texts], role, instruction)[0]
            return alone
        listed = checked(texts)
        with self._counting() as truncation, progress(len(listed), show_progress) as advance:
            return self._reduced(unit(_embed(self.engine, listed, role, instruction, truncation, advance), listed))

    def _chunks(
        self,
        documents: list[str],
        spans: list[Ids],
        truncation: TruncationCount,
        advance: Callable[[int], object],
    ) -> list[Vectors]:
        self.config.require_chunking()
        found = self.engine.embed(documents, "document", None, truncation, advance, "chunks", spans)
        of_one = zip(documents, spans, found, strict=True)
        return [self._reduced(unit(rows, [text[a:b] for a, b in own.tolist()])) for text, own, rows in of_one]

    def _stream_chunks(
        self,
        documents: Iterator[list[str]],
        chunks: Chunker | Iterator[Spans],
        total: int | None,
        show_progress: Progress,
    ) -> Iterator[Vectors]:
        with self._counting() as truncation, progress(total, show_progress) as advance:
            first = 0
            for some in documents:
                own = chunks if callable(chunks) else list(islice(chunks, len(some)))
                yield from self._chunks(some, char_spans(some, own, first), truncation, advance)
                first += len(some)
            if not callable(chunks) and next(chunks, None) is not None:
                raise InputError(
                    f"chunks has the spans of more documents than the {first} that there are; give a list of "
                    "(start, end) for each document, [] for one without chunks"
                )

    def _chosen(self, choice: Choice) -> EchoConfig:
        """Take a config that was chosen because the user gave none."""
        config = self._options.applied_to(choice.config)
        self._config, self._notice = config, choice.notice
        return config

    def _check_dimensions(self) -> None:
        """Refuse transforms that do not fit the model, as far as it is known before it is loaded."""
        if self._config is None and (known := known_choice(self._spec)) is not None:
            self._chosen(known)  # kept, because lengths that are not made for it are warned of once
        config = self._config
        if config is None or not config.transforms:
            return
        width = known_width(self._spec) or config.transforms[0].input_dimension
        if width is not None:
            config.dimension(width)

    def _stream(
        self,
        texts: Iterator[list[str]],
        role: Role,
        instruction: str | None,
        total: int | None,
        show_progress: Progress,
    ) -> Iterator[Vectors]:
        with self._counting() as truncation, progress(total, show_progress) as advance:
            for chunk in texts:
                vectors = _embed(self.engine, chunk, role, instruction, truncation, advance)
                yield from self._reduced(unit(vectors, chunk))

    def _reduced(self, vectors: Vectors) -> Vectors:
        """Unit vectors in the encoder's precision."""
        if self.precision == "float32":
            return vectors
        smaller: Vectors = reduced(vectors, self.precision, self._ranges(), turns=self.config.turns_bits)
        return smaller

    def _ranges(self) -> Vectors | None:
        """The ranges that the encoder's precision needs; ``None`` if it needs none."""
        if self.precision != "int8":
            return None
        ranges = self.config.ranges
        if ranges is None:
            raise _no_ranges()
        if (found := ranges.of(self.dimension)) is None:
            fitted = ", ".join(map(str, ranges.options["lengths"]))
            raise _no_ranges(f" for {self.dimension} dimensions, only for {fitted}")
        return found

    @contextmanager
    def _counting(self) -> Iterator[TruncationCount]:
        truncation = TruncationCount(self._options.on_truncate, self.config.max_length)
        try:
            yield truncation
            truncation.warn()
        finally:
            with self._lock:
                self._truncated = truncation.total(self._truncated)


def _no_ranges(which: str = "") -> ConfigError:
    return ConfigError(
        f"precision='int8' needs the range of each dimension, and the config has none{which}; fit them on some "
        "hundred texts like yours: EchoEncoder(...).fit_ranges(texts).with_precision('int8'), and save_pretrained "
        "keeps them; or choose 'float16' or 'ubinary'"
    )


def _length(texts: Iterable[str] | Column) -> int | None:
    return len(texts) if isinstance(texts, Sized) else None


def _embed(
    engine: Engine,
    texts: list[str],
    role: Role,
    instruction: str | None,
    truncation: TruncationCount,
    advance: Callable[[int], object] = lambda _: None,
) -> Vectors:
    """Vectors before they are scaled to unit length: float32 ``[n, dim]``. Identical texts are computed once."""
    row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    unique = list(row)
    vectors: Vectors = engine.embed(unique, role, instruction, truncation, advance)
    advance(len(texts) - len(unique))
    return vectors if len(unique) == len(texts) else vectors[[row[text] for text in texts]]
