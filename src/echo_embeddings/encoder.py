"""The one public object: texts in, float32 unit vectors out. An encoder knows no framework.

The way of a text: it is checked, tokenised once, laid into its role's template, run in a batch of texts of like length,
pooled over its last copy, mapped by the fitted transforms, put beside its words where the config has a lexical part,
brought to unit length, and put back in the caller's order.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.config.config import EchoConfig, require_whole
from echo_embeddings.engine.aio import AsyncMethods
from echo_embeddings.engine.worker_pool import crewed
from echo_embeddings.model.spec import Source
from echo_embeddings.text.inputs import WINDOW, Progress, checked, progress, windows
from echo_embeddings.text.truncation import ON_TRUNCATE, Cuts, Truncated
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.transforms import Transform, fit

from .engine import solo
from .errors import ConfigError
from .saving import folder_at, save
from .types import Role, TokenEmbeddings, Vectors

if TYPE_CHECKING:
    from typing_extensions import Self

    from echo_embeddings.engine.runtime import Runtime

__all__ = ["EchoEncoder"]


class EchoEncoder(AsyncMethods):
    """Text embeddings from a causal language model that reads the text twice.

    The model is loaded at the first call that needs it. An encoder never changes its vectors, may be used from several
    threads, and can be pickled: the weights are loaded again, not copied.

    Args:
        model: ``None`` for the built-in SmolLM2-135M-Instruct, a hub id, a folder, a ``.gguf`` file, or a loaded
            transformers model (then ``tokenizer`` is needed; the model is switched to ``eval()`` and not changed).
        config: an ``EchoConfig`` or the name of a preset (``EchoConfig.preset``). ``None`` takes what is saved with
            the model; else ``"default"`` for the built-in model (``"zero-shot"`` where it has an ``adapter``) and
            ``"echo"``, the paper's method, for any other.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; ``None`` takes the best there is.
        devices: several, such as ``["cuda:0", "cuda:1"]`` or ``["cpu", "cpu"]``: a worker process for each takes its
            share of a call's texts. They start at the first text and end by :meth:`close`, ``with``, or with the
            encoder. A script that uses them needs ``if __name__ == "__main__":``.
        dtype: ``"auto"`` (bfloat16 where the machine is fast at it, else float32), a torch dtype, or ``"int8"``: as
            ``"auto"`` with the decoder layers' weights in 8 bits (the built-in model's vectors: cosine over 0.99).
        tokenizer: a fast tokenizer, for a loaded model.
        adapter: hub id or folder of a PEFT adapter to merge into the weights; not beside a config that has one.
        on_truncate: what to do with texts over ``max_length``: ``"warn"`` once a call, raise an ``"error"``, or
            ``"ignore"``. :attr:`truncated` counts them in any case.
        dimensions: keep the first so many of each vector, as the default is made for (512, 256). ``None`` for all.
        compiled: let torch compile the layers: a minute once a machine, then faster; worth it for thousands of texts.
        model_kwargs: for transformers' ``from_pretrained``: ``revision``, ``device_map``, ``quantization_config``, ...

    Raises:
        ConfigError: the config is unknown or cannot work.
        TypeError: an argument has the wrong type.
    """

    def __init__(  # noqa: PLR0913 - all but the first four by name
        self,
        model: Any = None,
        config: EchoConfig | str | None = None,
        device: str | None = None,
        dtype: Any = "auto",
        *,
        tokenizer: Any = None,
        adapter: str | os.PathLike[str] | None = None,
        on_truncate: str = "warn",
        model_kwargs: dict[str, Any] | None = None,
        devices: Sequence[str] | None = None,
        dimensions: int | None = None,
        compiled: bool = False,
    ) -> None:
        if on_truncate not in ON_TRUNCATE:
            raise ConfigError(f"on_truncate={on_truncate!r} is unknown; choose one of {', '.join(ON_TRUNCATE)}")
        if config is not None and not isinstance(config, EchoConfig | str):
            raise TypeError(f"config must be an EchoConfig or a preset's name, not {type(config).__name__}")
        if dimensions is not None:
            require_whole("dimensions", dimensions, at_least=1)
        adapter = None if adapter is None else os.fspath(adapter)
        source = Source(model, tokenizer, adapter, device, dtype, dict(model_kwargs or {}), compiled)
        self._source, self._crew = crewed(source, devices)
        self._dimensions = dimensions
        config = EchoConfig.preset(config) if isinstance(config, str) else config
        self._config = None if config is None else config.truncated(dimensions)
        if config is not None:
            self._source.for_config(config)  # said now, not at the first text
        self._on_truncate = on_truncate
        self._truncated = Truncated()
        self._lock = threading.RLock()
        self._loaded: Runtime | None = None
        self._batchers = {}

    def encode_documents(self, texts: str | Sequence[str], *, show_progress: Progress = False) -> Vectors:
        """Embed what is searched in, or texts that are compared with one another.

        Args:
            texts: a list of texts, or one text. Texts may be empty: they get a vector like any other.
            show_progress: show a progress bar, or a function to call with the number of texts in each finished batch.

        Returns:
            float32 ``[n, dim]`` of unit length, in the order given; ``[dim]`` for one text; ``[0, dim]`` for ``[]``.

        Raises:
            TypeError: an element is not a string; names its position.
            TruncationError: a text is too long and ``on_truncate="error"``.
            NumericalError: the model gave NaN or infinity; names the texts.
            WorkerError: one of several ``devices`` ended before its work was done.
        """
        return self._encode(texts, "document", None, show_progress=show_progress)

    def encode_queries(
        self, texts: str | Sequence[str], *, instruction: str | None = None, show_progress: Progress = False
    ) -> Vectors:
        """Embed what is searched for: :meth:`encode_documents` with the query template.

        Args:
            texts: a list of texts, or one text.
            instruction: the task, for a template with ``{instruction}``.
            show_progress: show a progress bar, or a function to call with the number of texts in each finished batch.

        Returns:
            As :meth:`encode_documents`.

        Raises:
            ConfigError: an instruction is given that the template has no place for.
        """
        return self._encode(texts, "query", instruction, show_progress=show_progress)

    def stream_documents(self, texts: Iterable[str], *, window: int = WINDOW) -> Iterator[Vectors]:
        """Embed documents from any iterable, one vector ``[dim]`` at a time, with at most ``window`` texts in memory.

        Raises:
            ConfigError: ``window`` is below 1.
        """
        return self._stream(windows(texts, window), "document", None)

    def stream_queries(
        self, texts: Iterable[str], *, instruction: str | None = None, window: int = WINDOW
    ) -> Iterator[Vectors]:
        """:meth:`stream_documents` with the query template."""
        return self._stream(windows(texts, window), "query", instruction)

    def encode_tokens(self, text: str) -> TokenEmbeddings:
        """The second copy's vector of each token of a document: every one has seen the whole text.

        Average the vectors of a span for late chunking (arXiv 2409.04701). Words beside it are the whole text's.
        """
        (text,) = checked([text])
        runtime, template = self.runtime, self.config.templates[0]
        layout = runtime.layout(template, None)
        with self._counting() as cuts:
            contents = runtime.contents([text], template, None)
            cuts.add([text], contents, runtime.limit(layout))
        (content,) = contents
        vectors = runtime.tokens(content, layout)
        offsets = runtime.tokenizer.offsets(text, spaced=template.spaced)[: len(content.ids)]
        return TokenEmbeddings(runtime.tokenizer.tokens(content.ids), offsets, unit(vectors))

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """Cosine similarity of unit vectors: ``[n, dim]`` and ``[m, dim]`` give ``[n, m]``."""
        return np.asarray(np.asarray(a) @ np.asarray(b).T, dtype=np.float32)

    @property
    def config(self) -> EchoConfig:
        """All that defines a vector besides the weights."""
        if self._config is None:
            self._config = self._source.config().truncated(self._dimensions)
        return self._config

    @property
    def model_name(self) -> str:
        """Hub id, path, or the built-in model's name; for a loaded model its class and ``name_or_path``."""
        return self._source.name

    def fingerprint(self) -> str:
        """SHA-256 (hex) of model name, adapter, dtype, ``model_kwargs`` and config: a namespace for caches of vectors.

        Weights are known by name and path only (a packaged adapter by its content): a model that is trained in place
        keeps its fingerprint.
        """
        source = self._source
        parts = (source.name, source.adapter, str(source.dtype), sorted(source.model_kwargs.items(), key=str))
        return hashlib.sha256(repr((parts, self.config.fingerprint())).encode()).hexdigest()

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.runtime.dimension

    @property
    def max_length(self) -> int:
        """Content tokens of a document that are read: the config's ``max_length``, or what fits the model's context."""
        runtime = self.runtime
        return runtime.limit(runtime.layout(self.config.templates[0], None))

    @property
    def truncated(self) -> Truncated:
        """What has been cut since this encoder was made."""
        return self._truncated

    @property
    def runtime(self) -> Runtime:
        """The loaded model at work (tokenizer, backbone, layouts), for adapters and experiments; loads it if needed."""
        with self._lock:
            if self._loaded is None:
                from echo_embeddings.engine.runtime import Runtime

                config = self.config
                self._loaded = Runtime(*self._source.for_config(config).load(), config)
            return self._loaded

    def count_tokens(self, texts: str | Sequence[str]) -> list[int]:
        """Content tokens of each text, uncut; one longer than :attr:`max_length` would be truncated."""
        texts = checked([texts] if isinstance(texts, str) else texts)
        return self.runtime.tokenizer.count(texts, spaced=self.config.templates[0].spaced)

    def with_config(self, config: EchoConfig) -> EchoEncoder:
        """The same model with another config; weights are shared where the same layers and adapters run, else reloaded.

        Raises:
            ConfigError: the config was trained with a packaged adapter, or fitted, for another model.
        """
        self._source.for_config(config)
        other = object.__new__(EchoEncoder)
        crew = None if self._crew is None else self._crew.for_config(self.config, config)
        other.__setstate__(self.__getstate__() | {"_config": config, "_truncated": Truncated(), "_crew": crew})
        with self._lock:
            if self._loaded is not None:
                other._loaded = self._loaded.with_config(config)
        return other

    def fit_transforms(
        self, texts: Sequence[str], transforms: Sequence[str | Transform] = ("standardize",)
    ) -> EchoEncoder:
        """A new encoder with transforms fitted on unlabelled texts; this one keeps its vectors.

        Args:
            texts: documents like those to come, some hundred or more. May be empty if nothing needs fitting.
            transforms: in order: ``"standardize"``, ``"whiten"``, ``"embed-filter"`` (half the dimensions), or a ready
                ``Transform`` such as ``Truncate(256)``. They replace the ones there are, with ``dimensions``; a lexical
                part stays, behind them, and a ``Truncate`` at the end cuts it too.

        Raises:
            ConfigError: a name is unknown, or there are too few texts.
        """
        from echo_embeddings.model.loading import unembedding

        _ = self._crew or self.runtime  # one set of weights for all three encoders
        plain = self.with_config(self.config.replace(transforms=(), lexical=None))
        vectors = None
        if texts := checked(texts):
            with plain._counting() as cuts:
                vectors = plain._pooled(texts, "document", None, cuts)
        fitted = fit(transforms, vectors, lambda: unembedding(self._source, plain.runtime.backbone.model))
        return self.with_config(self.config.replace(transforms=fitted))

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write weights (layers that run, adapters merged), tokenizer, ``echo_config.json``: ``EchoEncoder(path)``.

        So does ``SentenceTransformer(path, trust_remote_code=True)`` where sentence-transformers-echo is installed.

        Raises:
            ConfigError: ``path`` is a file, or the weights are in int8.
        """
        save(folder_at(path), self.runtime)

    def close(self) -> None:
        """End the worker processes of ``devices``, if there are any; a later call starts new ones."""
        if self._crew is not None:
            self._crew.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_lock", "_loaded", "_batchers")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock(), _loaded=None, _batchers={})

    def __repr__(self) -> str:
        return f"EchoEncoder(model={self.model_name!r}, config={self._config!r})"

    def _encode(
        self,
        texts: str | Sequence[str],
        role: Role,
        instruction: str | None,
        *,
        show_progress: Progress = False,
    ) -> Vectors:
        if isinstance(texts, str):
            alone: Vectors = self._encode([texts], role, instruction)[0]
            return alone
        listed = checked(texts)
        with self._counting() as cuts, progress(len(listed), show_progress) as advance:
            return unit(self._pooled(listed, role, instruction, cuts, advance))

    def _pooled(
        self,
        texts: list[str],
        role: Role,
        instruction: str | None,
        cuts: Cuts,
        advance: Callable[[int], object] = lambda _: None,
    ) -> Vectors:
        """Vectors before they are brought to unit length. Identical texts are computed once."""
        row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        unique = list(row)
        if self._crew is None:
            vectors = solo.pool(self.runtime, unique, role, instruction, cuts, advance)
        else:
            vectors = self._crew.pool(self.config, unique, role, instruction, cuts, advance)
        advance(len(texts) - len(unique))
        return vectors if len(unique) == len(texts) else vectors[[row[text] for text in texts]]

    def _stream(self, texts: Iterator[list[str]], role: Role, instruction: str | None) -> Iterator[Vectors]:
        with self._counting() as cuts:
            for window in texts:
                yield from unit(self._pooled(window, role, instruction, cuts))

    @contextmanager
    def _counting(self) -> Iterator[Cuts]:
        cuts = Cuts(self._on_truncate, self.config.max_length)
        try:
            yield cuts
            cuts.warn()
        finally:
            with self._lock:
                self._truncated = cuts.total(self._truncated)
