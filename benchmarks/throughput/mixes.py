"""The texts of the benchmark: real prose that every machine has, shortened to the lengths that each mix needs.

They are docstrings of Python's standard library. Fair: every contender gets the same texts, all different, in an order
that does not depend on their length. The texts are technical English with many names, so a token has fewer characters
than in a novel. Lengths are counted in tokens of the built-in model (MiniLM has about as many).
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
    """Texts that are embedded together, and the number of content tokens of each."""

    name: str
    texts: list[str]
    lengths: list[int]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def sample(self, count: int) -> list[int]:
        """Places of ``count`` texts at evenly spaced ranks of length (short, middle, long ones), in their old order."""
        if count >= len(self.texts):
            return list(range(len(self.texts)))
        ranked = sorted(range(len(self.texts)), key=self.lengths.__getitem__)
        step = len(ranked) / max(count, 1)
        return sorted(ranked[int((i + 0.5) * step)] for i in range(count))


def docstrings() -> Iterator[str]:
    """Different passages of the standard library's documentation; the modules at the top level come first."""
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
    """An endless stream of documentation, from which texts of any length are taken.

    Each passage is used in one text, until all have been used. Then they come again without their first words, so that
    all texts stay different.

    Args:
        tokenizer: the built-in model's, for counting tokens.
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
        """The next text of about ``tokens`` tokens: some passages in a row, of which the last one is shortened."""
        pieces: list[str] = []
        while True:
            pieces.append(next(self._passages))
            text = "\n\n".join(pieces)
            if len(text) < 2 * tokens:  # certainly too short; tokenising it would take time for nothing
                continue
            offsets = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if len(offsets) >= tokens:
                return text[: offsets[tokens - 1][1]].strip()

    def mix(self, name: str, lengths: list[int]) -> Mix:
        """Make a mix of texts of about these lengths; its own lengths are counted once more."""
        return self.of(name, [self.take(length) for length in lengths])

    def of(self, name: str, texts: list[str]) -> Mix:
        """Make a mix of given texts."""
        ids = self._tokenizer([" " + text for text in texts], add_special_tokens=False)["input_ids"]
        return Mix(name, texts, [len(row) for row in ids])


def tail_lengths(count: int, longest: int) -> list[int]:
    """Lengths that follow a log-normal distribution (evenly spaced quantiles, shuffled); the largest is ``longest``."""
    normal = NormalDist(math.log(TAIL_MEDIAN), TAIL_SIGMA)
    lengths = [round(math.exp(normal.inv_cdf((i + 0.5) / count))) for i in range(count - 1)]
    lengths = [min(max(length, 8), longest) for length in lengths] + [longest]
    random.Random(SEED).shuffle(lengths)  # noqa: S311 - the same texts every time
    return lengths


def mixes(
    prose: Prose, short: int, passages: int, tail: int, longest: int, even: tuple[int, int] = (0, 512)
) -> list[Mix]:
    """Make the mixes of the table; one of 0 texts is left out. ``even`` is a number of texts and the tokens of each."""
    chance = random.Random(SEED)  # noqa: S311 - as above
    made = []
    if short:
        queries = list(islice(short_texts(1), short))
        # If the library has too few passages, runs of words from inside them are taken too.
        made.append(prose.of(SHORT, queries if len(queries) == short else list(islice(short_texts(), short))))
    if passages:
        made.append(prose.mix(PASSAGES, [chance.randint(*PASSAGE_TOKENS) for _ in range(passages)]))
    if tail:
        made.append(prose.mix("long tail", tail_lengths(tail, longest)))
    if even[0]:
        made.append(prose.mix(f"texts of {even[1]} tokens", [even[1]] * even[0]))
    return made


def short_texts(per_passage: int | None = None) -> Iterator[str]:
    """Different texts of eight words: ``per_passage`` of each passage, or all that begin at every other word.

    When those are used up, texts follow that begin at the words between: the standard library of some Python versions
    has fewer than 100,000 of the former.
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
