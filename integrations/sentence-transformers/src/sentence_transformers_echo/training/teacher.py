"""Distillation: another embedder's vectors of the texts, as targets for a student's vectors.

The teacher's vectors are rotated onto their principal axes (about the origin), which keeps every cosine; then the first
``dimension`` axes are kept. The first dimensions of such vectors are good shorter vectors, and so are the student's.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from echo_embeddings import ConfigError
from echo_embeddings.data.files import whole_file
from echo_embeddings.vectors.normalize import unit

__all__ = ["Vectors", "load", "targets"]

Vectors = NDArray[np.float32]
#: The most tokens of a text that the teacher embeds: more than a student gets in training, though its tokens differ.
_LONGEST = 192


def targets(teacher: str, texts: list[str], dimension: int, cache: Path, *, show_progress: bool) -> Vectors:
    """Embed texts with the teacher, as unit vectors on its principal axes: float32 ``[n, dimension]``.

    Args:
        teacher: hub id, folder, or ``package:module/path``.
        texts: the texts; of each, the first 192 tokens of the teacher are embedded.
        dimension: how many axes are kept.
        cache: folder in which the teacher's vectors are stored for the next run.
        show_progress: show a progress bar.

    Raises:
        ConfigError: the teacher cannot be loaded, or has fewer dimensions.
    """
    vectors = _embedded(teacher, texts, cache, show_progress=show_progress)
    if dimension > vectors.shape[1]:
        raise ConfigError(f"dimension={dimension} is more than the teacher's {vectors.shape[1]}; choose at most that")
    _, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors.astype(np.float64))
    return unit(vectors @ axes[:, ::-1][:, :dimension].astype(np.float32))


def _embedded(teacher: str, texts: list[str], cache: Path, *, show_progress: bool) -> Vectors:
    sha = hashlib.sha256(repr((teacher, _LONGEST)).encode())
    for text in texts:
        sha.update(text.encode() + b"\0")
    path = cache / f"{sha.hexdigest()[:16]}.npy"
    if (known := _stored(path, len(texts))) is not None:
        return known
    model = load(teacher)
    model.max_seq_length = min(_LONGEST, model.max_seq_length or _LONGEST)
    vectors = model.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=show_progress)
    half = np.asarray(vectors).astype(np.float16)
    cache.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, half)
    return half.astype(np.float32)


def _stored(path: Path, rows: int) -> Vectors | None:
    """The vectors that an earlier run stored; ``None`` if there are none, or the file is damaged."""
    try:
        known: NDArray[np.float16] = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return known.astype(np.float32) if len(known) == rows and np.isfinite(known).all() else None


def load(teacher: str) -> SentenceTransformer:
    """Load any SentenceTransformer.

    Args:
        teacher: hub id, folder, or ``package:module/path`` of an installed package.

    Raises:
        ConfigError: it cannot be loaded.
    """
    name = teacher
    if teacher.startswith("package:"):
        package, _, inside = teacher.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ConfigError(f"teacher={teacher!r}: the package {package!r} is not installed")
        name = str(Path(spec.origin).parent / inside)
    try:
        return SentenceTransformer(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"teacher={teacher!r} could not be loaded as a SentenceTransformer: {error}\n"
            "Give a hub id, a folder, or package:name/folder of an installed package"
        ) from error
