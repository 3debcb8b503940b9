"""Embed the texts of many requests in common batches, within the limits of a queue. Knows no HTTP but its errors."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.engine.awaited import Awaited
from echo_embeddings.errors import ConfigError
from echo_embeddings.types import Role, Vectors
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.precision import reduced

from .errors import ApiError
from .metrics import Metrics

__all__ = ["Embedded", "Service", "require_dimensions"]

# Texts of so many characters together are tokenised at once; for more, it would hold up the event loop.
_FEW = 5000
# Answers to "try again in": at least and at most so many seconds.
_SOON, _LATE = 1, 60


@dataclass(frozen=True)
class Embedded:
    """The vectors of a request's texts.

    Attributes:
        vectors: float32 ``[n, dim]``, of unit length.
        tokens: how many tokens of the texts the model read.
        truncated: of how many texts it read only the beginning.
    """

    vectors: Vectors
    tokens: int
    truncated: int


class Service:
    """An encoder for many requests at a time.

    Args:
        encoder: any encoder.
        most: how many texts may wait.
    """

    def __init__(self, encoder: EchoEncoder, most: int) -> None:
        # Of the encoder's precision is what is answered where no request says another; all are made of whole vectors.
        self._precision, self._most = encoder.precision, most
        self.encoder = encoder if encoder.precision == "float32" else encoder.with_precision("float32")
        self.metrics = Metrics(lambda: self._texts)
        self._awaited: Awaited[Vectors] = Awaited()
        self._texts = 0  # accepted and not answered
        self._rate = 0.0  # texts a second, of late

    def load(self) -> None:
        """Load the weights, and run a text of each role, so that no request waits for what comes before the first."""
        self.encoder.encode_documents("the first document")
        if self.encoder.config.template_for("query").instruction is not None or not self.takes_instruction:
            self.encoder.encode_queries("the first query")

    @property
    def name(self) -> str:
        """What the model is called where no name is given: a path stays private."""
        name = self.encoder.model_name
        plain = Path(name).name if Path(name).exists() or Path(name).is_absolute() else name
        return "".join("-" if character in " \t\n:?#" else character for character in plain)

    @property
    def takes_instruction(self) -> bool:
        """Whether the template for queries has a place for an instruction."""
        return "{instruction}" in self.encoder.config.template_for("query").text

    @contextmanager
    def accepted(self, texts: int) -> Iterator[None]:
        """Count texts as waiting, until the block that answers them is left.

        Raises:
            ApiError: too many wait already.
        """
        if self._texts and self._texts + texts > self._most:
            after = min(max(math.ceil(self._texts / self._rate) if self._rate else _SOON, _SOON), _LATE)
            raise ApiError(
                429,
                f"{self._texts} texts wait already, and with {texts} more there would be over {self._most}; try again "
                f"in {after} s",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": str(after)},
            )
        self._texts += texts
        try:
            yield
        finally:
            self._texts -= texts

    async def embed(self, texts: Sequence[str], role: Role, instruction: str | None = None) -> Embedded:
        """Embed texts, together with those of other requests. If the caller is cancelled, what has not begun is left.

        Raises:
            ApiError: the instruction cannot be, or a text is too long for ``on_truncate="error"``.
        """
        if role == "document" and instruction is not None:
            raise _bad("instruction is for queries; leave it out for documents")
        measure = partial(self._measured, texts, role, instruction)
        inline = sum(map(len, texts)) <= _FEW
        sizes, truncated = measure() if inline else await asyncio.to_thread(measure)
        apart = instruction is not None or self.encoder.config.tells_roles_apart
        run = partial(self._run, role, instruction)
        rows = await self._awaited.several(texts, run, (role if apart else None, instruction), sizes)
        self.metrics.embedded(role, len(texts), sum(sizes), truncated)
        return Embedded(np.stack(rows), sum(sizes), truncated)

    def _measured(self, texts: Sequence[str], role: Role, instruction: str | None) -> tuple[list[int], int]:
        """How many tokens of each text the model reads, and how many texts are longer."""
        engine = self.encoder.engine
        try:
            limit = engine.limit(role, instruction)
        except ConfigError as error:
            raise _bad(str(error)) from error
        counts = engine.tokenize(texts, role)
        if self.encoder.options.on_truncate == "split":
            return counts, 0
        long = [count for count in counts if count > limit]
        if long and self.encoder.options.on_truncate == "error":
            raise ApiError(
                400,
                f"{len(long)} text(s) are longer than {limit} tokens, the first has {long[0]}; split it",
                param="input",
                code="context_length_exceeded",
            )
        return [min(count, limit) for count in counts], len(long)

    def _run(self, role: Role, instruction: str | None, texts: list[str]) -> Vectors:
        """Embed a batch, in the thread of the queue."""
        started = time.perf_counter()
        if role == "query":
            vectors = self.encoder.encode_queries(texts, instruction=instruction)
        else:
            vectors = self.encoder.encode_documents(texts)
        seconds = time.perf_counter() - started
        self.metrics.batch(len(texts), seconds)
        self._rate += (len(texts) / max(seconds, 1e-6) - self._rate) / (5 if self._rate else 1)
        return vectors

    def require_precision(self, asked: str | None, dimensions: int | None) -> str:
        """The precision of a request's vectors.

        Args:
            asked: ``output_dtype`` of the request.
            dimensions: how many are kept.

        Raises:
            ApiError: int8 needs ranges, and the model's config has none for vectors of so many dimensions.
        """
        precision = {None: self._precision, "float": "float32"}.get(asked, asked) or "float32"
        if precision == "int8" and self._ranges(dimensions) is None:
            ranges = self.encoder.config.ranges
            fitted = "" if ranges is None else f" (it has those of {', '.join(map(str, ranges.options['lengths']))})"
            raise ApiError(
                400,
                "output_dtype='int8' needs the range of each dimension, and the model's config has none for "
                f"{dimensions or self.encoder.dimension} dimensions{fitted}; take 'float16' or 'ubinary', or serve a "
                "model that was saved after EchoEncoder.fit_ranges",
                param="output_dtype",
            )
        return precision

    def answered(self, vectors: Vectors, dimensions: int | None, precision: str) -> NDArray[Any]:
        """Vectors as a request wants them: their first dimensions, in its precision."""
        turns = self.encoder.config.turns_bits
        return reduced(_shortened(vectors, dimensions), precision, self._ranges(dimensions), turns=turns)

    def _ranges(self, dimensions: int | None) -> Vectors | None:
        ranges = self.encoder.config.ranges
        return None if ranges is None else ranges.of(dimensions or self.encoder.dimension)


def require_dimensions(dimensions: int | None, most: int) -> None:
    """Check how many dimensions are asked for.

    Raises:
        ApiError: a vector has not so many.
    """
    if dimensions is not None and dimensions > most:
        raise ApiError(400, f"dimensions={dimensions}: choose from 1 to the model's {most}", param="dimensions")


def _shortened(vectors: Vectors, dimensions: int | None) -> Vectors:
    """The first dimensions of vectors, of unit length again: what an encoder with ``dimensions`` gives."""
    return vectors if dimensions in (None, vectors.shape[1]) else unit(vectors[:, :dimensions])


def _bad(message: str) -> ApiError:
    return ApiError(400, message, param="instruction")
