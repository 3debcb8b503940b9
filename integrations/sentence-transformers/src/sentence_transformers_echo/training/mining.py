"""Find hard negatives for a file of pairs, with ``mine_hard_negatives`` of sentence-transformers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from echo_embeddings import ConfigError, EchoEncoder
from echo_embeddings.data.files import whole_file
from sentence_transformers_echo.folder import from_encoder

from .data import Data, read

__all__ = ["mine"]


def mine(
    data: Data,
    output: str | Path,
    model: EchoEncoder | SentenceTransformer | None = None,
    *,
    negatives: int = 1,
    margin: float = 0.05,
    skip: int = 0,
    candidates: int = 50,
    seed: int = 0,
) -> int:
    """Write triples (``anchor, positive, negative_1 ...``) for the pairs of a file, as JSON lines.

    Negatives are the documents nearest to a query, without its own. Some of them are right answers that nobody has
    marked. So a document is left out if its cosine is above ``(1 - margin)`` times the positive's (arXiv 2407.15831).
    With the default margin and a positive at 0.80, negatives have at most 0.76.

    Args:
        data: the pairs; further columns are dropped.
        output: a ``.jsonl`` or ``.jsonl.gz`` file; it is written completely or not at all.
        model: the model that finds negatives; ``None`` for ``EchoEncoder()``.
        negatives: how many for each pair; pairs with fewer are dropped.
        margin: how far a negative's cosine must be below the positive's, as a part of the positive's.
        skip: how many of the nearest documents are never taken.
        candidates: how many of the nearest documents are looked at.
        seed: for the random draw, if ``data.ratio`` or ``data.limit`` leave rows out.

    Returns:
        The number of triples written.

    Raises:
        ConfigError: an argument cannot work, or nothing was found.
    """
    target = Path(output).expanduser()
    if not target.name.endswith((".jsonl", ".jsonl.gz")):
        raise ConfigError(f"output={str(output)!r}: give a .jsonl or .jsonl.gz file")
    if data.loss != "contrastive":
        raise ConfigError(f"{data.path}: loss={data.loss!r}: negatives are mined for pairs, so loss='contrastive'")
    if not 0 <= margin < 1:
        raise ConfigError(f"margin={margin!r}: give a part of the positive's score, from 0 to below 1")
    if not 1 <= negatives <= candidates:
        raise ConfigError(f"negatives={negatives!r}: give a number from 1 to candidates={candidates}")
    pairs = read(data, Path(), seed).select_columns(["anchor", "positive"])
    mined = mine_hard_negatives(
        pairs,
        _retriever(model),
        anchor_column_name="anchor",
        positive_column_name="positive",
        range_min=skip,
        range_max=skip + candidates,
        relative_margin=margin,
        num_negatives=negatives,
        sampling_strategy="top",
        output_format="n-tuple",
        batch_size=256,
        verbose=False,
    )
    if not len(mined):
        raise ConfigError(f"{data.path}: no pair has {negatives} negatives below margin={margin}; lower the margin")
    _write(mined, target)
    return len(mined)


def _retriever(model: EchoEncoder | SentenceTransformer | None) -> SentenceTransformer:
    return model if isinstance(model, SentenceTransformer) else from_encoder(model or EchoEncoder())


def _write(rows: Dataset, target: Path) -> None:
    opened = gzip.open if target.suffix == ".gz" else open
    with whole_file(target) as unfinished, opened(unfinished, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
