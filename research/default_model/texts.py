"""What the steps share: rows and texts of files, sentences, random draws."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from echo_embeddings.data.files import whole_file
from echo_embeddings.data.tables import open_table

__all__ = ["SENTENCE_END", "distinct", "draw", "rows", "sentences", "texts_in", "write"]

Item = TypeVar("Item")
#: Where a sentence ends. The library's own pattern (training/data.py) knows more quotation marks; with it, the same
#: seed would draw other texts than those that the shipped weights come from.
SENTENCE_END = re.compile(r"(?<=[.!?])[\"”']?\s+(?=[A-Z\"“])")
#: Characters of the shortest text that is taken.
_SHORTEST = 12


def rows(data: Path, name: str) -> list[dict[str, Any]]:
    """Read the rows of ``data/name.jsonl.gz``; ``name`` has a folder in it, as ``pairs/papers_title_abstract`` has."""
    return [row for _, row in open_table(data / f"{name}.jsonl.gz", "text").rows()]


def texts_in(*files: Path) -> list[str]:
    """Read the column ``text`` of JSON lines, file after file."""
    return [text for file in files for text in open_table(file, "text").texts()]


def write(file: Path, rows: Iterable[dict[str, str]]) -> None:
    """Write rows as JSON lines. The file appears when all of them are written."""
    with whole_file(file) as unfinished, unfinished.open("w", encoding="utf-8") as opened:
        opened.writelines(json.dumps(row) + "\n" for row in rows)


def sentences(text: str, longer_than: int = 20) -> list[str]:
    """Split a text, and keep the sentences of more than ``longer_than`` and fewer than 300 characters."""
    return [part.strip() for part in SENTENCE_END.split(text) if longer_than < len(part) < 300]


def draw(items: Iterable[Item], count: int | None, rng: random.Random) -> list[Item]:
    """Draw ``count`` items in random order; ``None`` takes all."""
    shuffled = list(items)
    rng.shuffle(shuffled)
    return shuffled[:count]


def distinct(candidates: Iterable[str], count: int | None, rng: random.Random) -> list[str]:
    """Draw ``count`` different texts of at least 12 characters; ``None`` takes all."""
    return draw(dict.fromkeys(text.strip() for text in candidates if len(text.strip()) >= _SHORTEST), count, rng)
