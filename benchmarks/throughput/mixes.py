"""The texts of the benchmark: real prose that every machine has, cut to the lengths that each mix wants.

Docstrings of Python's standard library. Fair: every contender reads the same texts, all of them distinct, in an order
that knows nothing of their length. Not fair to anyone in particular, but to be known: technical English with many
names, so a token is shorter than in a novel. Lengths are tokens of the built-in model (MiniLM's are about as many).
"""

from __future__ import annotations

import math
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from statistics import NormalDist
from typing import Any

from echo_embeddings.data.passages import passages_of
from echo_embeddings.errors import InputError

SEED = 20261120
SHORT, PASSAGES = "short queries", "passages"
SHORT_WORDS = 8
PASSAGE_TOKENS = (150, 250)
TAIL_MEDIAN, TAIL_SIGMA = 150, 1.1
_SKIPPED = {"site-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}


@dataclass(frozen=True)
class Mix:
    """Texts that are embedded together, and how many content tokens each has."""

    name: str
    texts: list[str]
    lengths: list[int]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def sample(self, count: int) -> list[int]:
        """Indices of ``count`` texts at evenly spaced ranks of length: short, middling and long ones, in old order."""
        if count >= len(self.texts):
            return list(range(len(self.texts)))
        ranked = sorted(range(len(self.texts)), key=self.lengths.__getitem__)
        step = len(ranked) / max(count, 1)
        return sorted(ranked[int((i + 0.5) * step)] for i in range(count))


def docstrings() -> Iterator[str]:
    """Passages of the standard library's documentation, the top level first, each once."""
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(library.rglob("*.py"), key=lambda file: (len(file.parts), file))
    seen: set[str] = set()
    for file in files:
        if _SKIPPED.isdisjoint(file.relative_to(library).parts):
            try:
                found = passages_of(file, file.name)
            except InputError:
                continue
            fresh = [passage.text for passage in found if passage.text not in seen]
            seen.update(fresh)
            yield from fresh


class Prose:
    """An endless stream of documentation that is cut to any length.

    No two cuts share a passage until all have been read; then they come again without their first words, so that texts
    stay distinct.

    Args:
        tokenizer: the built-in model's, for counting.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._passages = self._endless()

    @staticmethod
    def _endless() -> Iterator[str]:
        for turn in count():
            for passage in docstrings():
                words = passage.split(maxsplit=5 * turn) if turn else [passage]
                if len(words) > 5 * turn:
                    yield words[-1]

    def take(self, tokens: int) -> str:
        """The next text of about ``tokens`` tokens: whole passages in a row, the last one cut."""
        pieces: list[str] = []
        while True:
            pieces.append(next(self._passages))
            text = "\n\n".join(pieces)
            if len(text) < 2 * tokens:  # surely too short yet
                continue
            offsets = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if len(offsets) >= tokens:
                return text[: offsets[tokens - 1][1]].strip()

    def mix(self, name: str, lengths: list[int]) -> Mix:
        """Texts of these lengths, as counted once more after cutting."""
        return self.of(name, [self.take(length) for length in lengths])

    def of(self, name: str, texts: list[str]) -> Mix:
        """A mix of given texts."""
        ids = self._tokenizer([" " + text for text in texts], add_special_tokens=False)["input_ids"]
        return Mix(name, texts, [len(row) for row in ids])


def tail_lengths(count: int, longest: int) -> list[int]:
    """Log-normal lengths as evenly spaced quantiles, shuffled; the last quantile is ``longest`` itself."""
    normal = NormalDist(math.log(TAIL_MEDIAN), TAIL_SIGMA)
    lengths = [round(math.exp(normal.inv_cdf((i + 0.5) / count))) for i in range(count - 1)]
    lengths = [min(max(length, 8), longest) for length in lengths] + [longest]
    random.Random(SEED).shuffle(lengths)  # noqa: S311 - the same texts every time
    return lengths


def mixes(
    prose: Prose, short: int, passages: int, tail: int, longest: int, even: tuple[int, int] = (0, 512)
) -> list[Mix]:
    """The mixes of the table, but for those of no text; ``even``: how many texts of how many tokens each."""
    chance = random.Random(SEED)  # noqa: S311 - as above
    made = []
    if short:
        queries = list(islice(short_texts(1), short))
        # Where the library has fewer passages: runs of words from within them too.
        made.append(prose.of(SHORT, queries if len(queries) == short else list(islice(short_texts(), short))))
    if passages:
        made.append(prose.mix(PASSAGES, [chance.randint(*PASSAGE_TOKENS) for _ in range(passages)]))
    if tail:
        made.append(prose.mix("long tail", tail_lengths(tail, longest)))
    if even[0]:
        made.append(prose.mix(f"texts of {even[1]} tokens", [even[1]] * even[0]))
    return made


def short_texts(per_passage: int | None = None) -> Iterator[str]:
    """Runs of eight words, each text once: the first of every passage, or runs that begin at every other word.

    When those have ended, runs that begin at the words between: not every Python's library has 100,000 of the former.
    """
    seen: set[str] = set()
    for first in (0, 1) if per_passage is None else (0,):
        for passage in docstrings():
            words = passage.split()
            starts = range(first, max(len(words) - SHORT_WORDS + 1, 0), 2)
            for start in starts[:per_passage]:
                text = " ".join(words[start : start + SHORT_WORDS])
                if text not in seen:
                    seen.add(text)
                    yield text
