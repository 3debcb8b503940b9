"""What the measurements of this folder share: vectors that are kept on disk, ranks, and their spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings import EchoEncoder
from echo_embeddings.data.files import whole_file
from echo_embeddings.types import Vectors
from echo_embeddings.vectors.normalize import unit

__all__ = ["ENDS", "STARTS", "Kept", "alone", "margin", "parts", "spans_of_parts", "spread", "success", "words"]

DRAWS = 1000
#: Cosines that differ by less are a tie: equal texts have vectors that are equal up to rounding.
ROUNDED = 5
Numbers = NDArray[np.float64]


def words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


#: Beginnings and ends of made-up names of places.
STARTS = words("Or Tar Hal Vel Kes Bro Lin Mar Sund Fjel Gri Ros Esk Dun Alm Ner Vad Torp")
ENDS = words("vik holm dal nes by stad mouth wick low ford mere tun")


class Kept:
    """Arrays in a ``.npz`` file: what is there is not made again.

    Args:
        path: the file; it is written after each array that was made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrays: dict[str, Vectors] = dict(np.load(path)) if path.exists() else {}

    def __call__(self, name: str, make: Callable[[], Vectors]) -> Vectors:
        """The array of this name, made if it is not there."""
        if name not in self._arrays:
            print(f"making {name}", flush=True)
            self._arrays[name] = make()
            with whole_file(self._path) as path, path.open("wb") as file:
                np.savez(file, **self._arrays)
        return self._arrays[name]


def spans_of_parts(parts: Sequence[str], between: str) -> list[tuple[int, int]]:
    """First and last-plus-one character of each part of ``between.join(parts)``."""
    starts = np.cumsum([0, *(len(one) + len(between) for one in parts)]).tolist()
    return [(start, start + len(one)) for start, one in zip(starts, parts, strict=False)]


def alone(encoder: EchoEncoder, texts: Sequence[str]) -> Vectors:
    """The vectors of texts, each read by itself: float32 ``[n, dim]``. Equal texts have equal vectors."""
    unique = list(dict.fromkeys(texts))
    vectors = dict(zip(unique, encoder.encode_documents(unique), strict=True))
    return np.stack([vectors[text] for text in texts])


def parts(encoder: EchoEncoder, vectors: Vectors) -> tuple[Vectors, Vectors | None]:
    """The two parts of vectors, each of unit length: that of the states, and that of the words if the config has one.

    Args:
        encoder: what made them, in all dimensions.
        vectors: ``[n, dim]``.
    """
    words = encoder.config.lexical
    if words is None:
        return unit(vectors), None
    dense = vectors.shape[1] - words.dimension
    is_word = np.concatenate(words.beside(np.zeros(dense, bool), np.ones(words.dimension, bool)))
    return unit(vectors[:, ~is_word]), unit(vectors[:, is_word])


def success(scores: Vectors, right: Sequence[int]) -> dict[str, Numbers]:
    """How well each question finds its one right row: ``accuracy@1``, ``nDCG@10`` and ``MRR``, each ``[questions]``.

    Rows with the same score are in any order: the mean over all orders is taken.

    Args:
        scores: ``[questions, rows]``.
        right: the right row of each question.
    """
    rounded = np.round(scores.astype(np.float64), ROUNDED)
    found = {name: np.zeros(len(right)) for name in ("accuracy@1", "nDCG@10", "MRR")}
    for number, (row, own) in enumerate(zip(rounded, right, strict=True)):
        above, level = int((row > row[own]).sum()), int((row == row[own]).sum())
        ranks = np.arange(above + 1, above + level + 1)
        found["accuracy@1"][number] = (ranks == 1).mean()
        found["nDCG@10"][number] = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean()
        found["MRR"][number] = (1 / ranks).mean()
    return found


def spread(values: Numbers, groups: Sequence[Any]) -> float:
    """The standard deviation of a mean over questions, by drawing documents again (bootstrap).

    Args:
        values: ``[questions]``.
        groups: the document of each question; the questions of a document are drawn together.
    """
    names, which = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(which, values, len(names)), np.bincount(which, minlength=len(names))
    drawn = np.random.default_rng(0).integers(0, len(names), (DRAWS, len(names)))
    return float((sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)).std())


def margin(values: Numbers, other: Numbers, groups: Sequence[Any]) -> str:
    """By how much the first is better, times 100, with its spread."""
    return f"{100 * (values - other).mean():+.1f} ± {100 * spread(values - other, groups):.1f}"
