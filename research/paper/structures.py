"""Triplets in which only one half of a sentence tells what is alike: the structures of the paper, made by a grammar.

    python -m research.paper.structures

writes ``triplets.jsonl`` beside this file. A text is an opening A and a rest B. There are three kinds, 240 of each:

========= ======== =========== ========== ==========================================================================
kind      query    positive    negative   in the paper
========= ======== =========== ========== ==========================================================================
``early`` A, B     A+, B~      A-, B      S1 of version 2 (S2 of version 1, "Structure 2" of the appendix's tables)
``late``  A, B     A~, B+      A, B-      S2 of version 2 (S1 of version 1, "Structure 1" of the appendix's tables)
``twins`` A, B     A, B+       A, B-      S3 of both versions
========= ======== =========== ========== ==========================================================================

A~ changes a word or two of A, A+ says the same in other words, and A- says the opposite in other words; so for B. In
this way words alone do not tell: a negative text has half of the query word by word.

The paper had its triplets written by GPT-4 and prints 28 of them; these are our own. As in the paper A is the short
half: it has up to eleven words, and B ten or more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from echo_embeddings.data.files import whole_file

__all__ = ["FILE", "KINDS", "Triplet", "grammar", "triplets"]

FILE = Path(__file__).with_name("triplets.jsonl")
PHRASES = Path(__file__).with_name("phrases.txt")
#: The kinds by name, and where the half that tells is.
KINDS = {"early": "the beginning tells", "late": "the end tells", "twins": "the beginning is the same"}

_Said = tuple[str, ...]  # as it is, nearly the same words, other words, the opposite in other words

_WHO = (
    "Anna",
    "my neighbour",
    "the new teacher",
    "Mr. Okafor",
    "our cousin",
    "the young doctor",
    "Mehmet",
    "the old gardener",
    "her sister",
    "Professor Lindqvist",
    "the night nurse",
    "Tomás",
)


@dataclass(frozen=True)
class Triplet:
    """Three texts; the query is nearer to the positive one for whoever has understood them.

    Attributes:
        kind: one of :data:`KINDS`.
        query: opening and rest.
        positive: the same in other words.
        negative: one half is the query's own, and the other says the opposite.
        opening: the query's opening, with which all three begin if the kind is ``"twins"``.
    """

    kind: str
    query: str
    positive: str
    negative: str
    opening: str


def grammar() -> Iterator[Triplet]:
    """All triplets: each opening of a subject with each rest, in an order in which subjects and people change."""
    pairs = [(opening, rest) for openings, rests in _subjects() for opening in openings for rest in rests]
    step = 77  # shares no factor with the number of pairs, so that each comes once
    for place in range(len(pairs)):
        opening, rest = pairs[place * step % len(pairs)]
        who = _WHO[place % len(_WHO)]
        a, a_nearly, a_same, a_opposite = (_sentence_case(part.format(who)) for part in opening)
        b, b_nearly, b_same, b_opposite = rest
        query = f"{a}{b}."
        yield Triplet("early", query, f"{a_same}{b_nearly}.", f"{a_opposite}{b}.", a)
        yield Triplet("late", query, f"{a_nearly}{b_same}.", f"{a}{b_opposite}.", a)
        yield Triplet("twins", query, f"{a}{b_same}.", f"{a}{b_opposite}.", a)


def triplets(kind: str, sample: int, size: int) -> list[Triplet]:
    """Sample ``sample`` (from 0) of one kind: ``size`` triplets. Samples do not overlap.

    Raises:
        ValueError: there are not so many.
    """
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    found = [Triplet(**row) for row in rows if row["kind"] == kind][sample * size : (sample + 1) * size]
    if len(found) < size:
        raise ValueError(f"there is no sample {sample} of {size} triplets of the kind {kind!r}")
    return found


def _subjects() -> list[tuple[list[_Said], list[_Said]]]:
    """For each subject its openings, and the rests that go with all of them."""
    blocks = [
        [tuple(line.split(" | ")) for line in block.splitlines() if not line.startswith("#")]
        for block in PHRASES.read_text(encoding="utf-8").split("\n\n")
    ]
    return [
        ([said for said in block if not said[0].startswith(",")], [said for said in block if said[0].startswith(",")])
        for block in blocks
        if block
    ]


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def main() -> None:
    """Write the file."""
    with whole_file(FILE) as path:
        path.write_text("".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in grammar()), "utf-8")


if __name__ == "__main__":
    main()
