"""Read and check files of training rows before anything is computed. Data knows no model."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from echo_embeddings import ConfigError
from echo_embeddings.data.tables import Row, checked, open_table
from echo_embeddings.errors import InputError
from echo_embeddings.types import require_whole

__all__ = ["LOSSES", "TAUGHT", "Data", "read"]

#: What each loss learns from.
LOSSES = {
    "contrastive": "pairs, or triples with hard negatives: anchor, positive[, negative, ...]",
    "distill": "single texts (of every column named); the teacher says what their vectors shall be",
    "rank": "single texts, as for distill; batches of like texts, which shall rank each other as the teacher says",
    "simcse": "single texts; each is its own positive, seen through another dropout (arXiv 2104.08821)",
}
#: Losses that need a teacher's vectors.
TAUGHT = ("distill", "rank")
_COLUMNS = {"contrastive": ("anchor", "positive"), "distill": ("text",), "rank": ("text",), "simcse": ("text",)}
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’]?\s+(?=[A-Z\"“])")  # noqa: RUF001 - quotation marks as they are printed
_SENTENCE = range(20, 300)


@dataclass(frozen=True)
class Data:
    """One file to train on. All rows of a batch come from the same file.

    Args:
        path: a ``.jsonl``, ``.csv``, ``.parquet`` or ``.txt`` file; the first two also with ``.gz``.
        loss: ``"contrastive"`` (the default), ``"distill"``, ``"rank"`` or ``"simcse"``.
        columns: the columns to use, in order. With ``"contrastive"``: anchor (the query), positive (its document), then
            hard negatives; the default is ``anchor`` and ``positive``, and ``negative`` if the first row has it. With
            any other loss every column is a column of single texts; the default is ``text``.
        ratio: how much of the file is used, drawn at random: 0.1 is a tenth of the rows, 2 is each of them twice.
        limit: the most rows that are used, after ``ratio``; ``None`` for no limit.
        sentences: split the texts into sentences, keep those of 20 to 299 characters, and train on them: they are
            cheap and varied. Not for ``"contrastive"``.
        name: for logs and the model card; ``None`` takes the file's name.
        licence: the data's licence, for the model card.

    Raises:
        ConfigError: a value cannot work.
    """

    path: str
    loss: str = "contrastive"
    columns: Sequence[str] | None = None
    ratio: float = 1.0
    limit: int | None = None
    sentences: bool = False
    name: str | None = None
    licence: str = "not stated"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ConfigError(f"{self.path}: loss={self.loss!r} is unknown; choose one of {', '.join(LOSSES)}")
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(self.columns))
            least = len(_COLUMNS[self.loss])
            if len(self.columns) < least or len(set(self.columns)) < len(self.columns):
                raise ConfigError(f"{self.path}: columns={list(self.columns)}: give {LOSSES[self.loss]}")
        if isinstance(self.ratio, bool) or not isinstance(self.ratio, int | float) or not 0 < self.ratio < float("inf"):
            raise ConfigError(f"{self.path}: ratio={self.ratio!r}: give a number above 0; 1 uses each row once")
        if self.limit is not None:
            require_whole(f"{self.path}: limit", self.limit, ConfigError)
        if self.sentences and self.loss == "contrastive":
            raise ConfigError(
                f"{self.path}: sentences=True breaks pairs apart; use it with single texts, such as loss='distill'"
            )

    @property
    def title(self) -> str:
        """The name, or the file's name up to the first dot."""
        return self.name or Path(self.path).name.split(".")[0]


def read(data: Data, folder: Path, seed: int) -> Dataset:
    """Read the rows of one file, drawn as ``ratio`` and ``limit`` say, in random order.

    Args:
        data: the file.
        folder: the folder that a relative path starts from.
        seed: for the random draw.

    Returns:
        The columns ``anchor``, ``positive``, ``negative_1`` ... for pairs; for single texts the column ``text``,
        without duplicates in the file.

    Raises:
        InputError: a row cannot be used; the message names file and line.
        FileNotFoundError: there is no such file.
    """
    path = folder / Path(data.path).expanduser()
    rows = list(_rows(data, path))
    if not rows:
        raise InputError(f"{path} has nothing to train on: no row, or no sentence of the right length")
    rows = _drawn(rows, data, random.Random(f"{seed} {data.title}"))  # noqa: S311 - no secret
    if data.loss == "contrastive":
        negatives = [f"negative_{i}" for i in range(1, len(rows[0]) - 1)]
        names = ["anchor", "positive", *negatives]
        return Dataset.from_dict({name: [row[i] for row in rows] for i, name in enumerate(names)})
    return Dataset.from_dict({"text": [row[0] for row in rows]})


def _rows(data: Data, path: Path) -> Iterator[tuple[str, ...]]:
    columns = data.columns
    seen: set[str] = set()
    for place, row in open_table(path, (columns or _COLUMNS[data.loss])[0]).rows():
        if columns is None:
            has_negative = data.loss == "contrastive" and "negative" in row
            columns = (*_COLUMNS[data.loss], "negative") if has_negative else _COLUMNS[data.loss]
        texts = [_text(row, name, place) for name in columns]
        if data.loss == "contrastive":
            yield tuple(texts)
            continue
        for text in _split(texts) if data.sentences else texts:
            if text not in seen:
                seen.add(text)
                yield (text,)


def _text(row: Row, name: str, place: str) -> str:
    if name not in row:
        raise InputError(f"{place}: there is no column {name!r}, only {', '.join(row)}; name the columns with columns:")
    text = checked(row[name], place, name)
    if not text.strip():
        raise InputError(f"{place}: {name!r} is empty, and nothing can be learned from it; drop the row")
    return text


def _split(texts: list[str]) -> Iterator[str]:
    for text in texts:
        yield from (part.strip() for part in _SENTENCE_END.split(text) if len(part.strip()) in _SENTENCE)


def _drawn(rows: list[tuple[str, ...]], data: Data, rng: random.Random) -> list[tuple[str, ...]]:
    wanted = min(round(data.ratio * len(rows)), data.limit or len(rows) * 2**20)
    drawn: list[tuple[str, ...]] = []
    while len(drawn) < max(wanted, 1):
        rng.shuffle(rows)
        drawn += rows[: max(wanted, 1) - len(drawn)]
    return drawn
