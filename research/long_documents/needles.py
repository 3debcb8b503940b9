"""Needles in documents of 256 to 4,096 tokens: is a single sentence found, wherever it stands, however long the text?

    python -m research.long_documents.needles --output vectors.npz [--plot needles.svg]

Question: how much of what a long document says once is left in its vector, or in those of its chunks?

Made by a grammar: paragraphs of filler about nothing in particular, of which all documents are made, in another order
each. Into each document five sentences are put, at 0, 25, 50, 75 and 100 % of its paragraphs: in turns a fact ("The
blacksmith of Orvik keeps seven geese.") and a passkey ("The passkey of Orvik is 48213."). The question about a sentence
must find its document among those of the same length. Nothing else tells the documents apart.

Ways: the beginning (``on_truncate="warn"``), all of it as one vector, the mean of the three best paragraphs and the
best paragraph, each embedded alone and by ``encode_chunks``. The one vector of all of it is that of a chunk that is the
whole document: as ``on_truncate="split"`` but for stretches that overlap. Scores are the share of questions whose
document is first, in percent. Vectors are kept in the output.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from echo_embeddings import EchoEncoder
from echo_embeddings.types import Vectors

from .common import ENDS, STARTS, Kept, Numbers, alone, parts, spans_of_parts, spread, success, words

__all__ = (
    "PLACES",
    "Needle",
    "Stack",
    "documents",
    "main",
    "stacks",
)

SEED = 31
LENGTHS = (256, 512, 1024, 2048, 4096)
#: Where needles stand, in percent of a document's paragraphs.
PLACES = (0, 25, 50, 75, 100)
PARAGRAPHS = 24
#: Tokens of a paragraph of filler and of a needle, about: by these a document comes near its length.
TOKENS, OF_NEEDLE = 42, 13
BEST = 3

_TRADES = words("blacksmith baker doctor teacher tailor cooper potter weaver")
_NUMBERS = words("two three four five six seven eight nine eleven twelve")
_ANIMALS = words("geese goats cats ponies bees rabbits doves ducks")
_WHO = ("A neighbour", "The old man", "My sister", "Somebody", "The child", "A stranger", "The postman", "Nobody")
_DID = (
    "looked out of the window",
    "waited for the bus",
    "walked along the river",
    "put the kettle on",
    "counted the clouds",
    "forgot the umbrella",
    "sat down under a tree",
    "whistled a song",
)
_WHEN = (
    "in the morning",
    "before supper",
    "after the rain",
    "on a Sunday",
    "late in autumn",
    "for an hour",
    "once more",
    "at noon",
)
_THEN = (
    "It was a quiet day",
    "The wind turned to the west",
    "The street was empty",
    "Leaves lay on the path",
    "The soup was still warm",
    "A dog barked far away",
    "The clock struck again",
    "The light was soft",
)


@dataclass(frozen=True)
class Needle:
    """A sentence that stands in one document only, with the question about it.

    Attributes:
        sentence: the sentence.
        question: what it answers.
        kind: "fact" or "passkey".
    """

    sentence: str
    question: str
    kind: str


@dataclass
class Stack:
    """A document: paragraphs, and where its needles are.

    Attributes:
        paragraphs: their texts, needles included.
        needles: one for each of ``PLACES``.
        at: the paragraph of each needle.
    """

    paragraphs: list[str]
    needles: list[Needle] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All paragraphs, with a space between two."""
        return " ".join(self.paragraphs)

    def spans(self) -> list[tuple[int, int]]:
        """First and last-plus-one character of each paragraph."""
        return spans_of_parts(self.paragraphs, " ")


def _filler(rng: random.Random) -> str:
    """Five sentences."""
    made = [f"{rng.choice(_WHO)} {rng.choice(_DID)} {rng.choice(_WHEN)}." for _ in range(3)]
    made += [f"{one}." for one in rng.sample(_THEN, 2)]
    rng.shuffle(made)
    return " ".join(made)


def _needle(place: str, kind: str, rng: random.Random) -> Needle:
    if kind == "passkey":
        key = rng.randrange(10000, 100000)
        return Needle(f"The passkey of {place} is {key}.", f"What is the passkey of {place}?", kind)
    trade, animals = rng.choice(_TRADES), rng.choice(_ANIMALS)
    return Needle(
        f"The {trade} of {place} keeps {rng.choice(_NUMBERS)} {animals}.",
        f"How many {animals} does the {trade} of {place} have?",
        kind,
    )


def documents(length: int, count: int) -> list[Stack]:
    """So many documents of about so many tokens; always the same."""
    rng = random.Random(f"{SEED} {length}")  # noqa: S311 - no secret
    pool = random.Random(SEED)  # noqa: S311 - no secret
    fillers = [_filler(pool) for _ in range(PARAGRAPHS)]
    names = [start + end for start in STARTS for end in ENDS]
    rng.shuffle(names)
    made = []
    for number in range(count):
        size = max(len(PLACES), (length - len(PLACES) * OF_NEEDLE) // TOKENS)
        some: list[str] = []
        while len(some) < size:
            some += rng.sample(fillers, len(fillers))
        stack = Stack(some[:size])
        for i, place in enumerate(PLACES):
            needle = _needle(names.pop(), ("fact", "passkey")[(i + number) % 2], rng)
            at = round(place / 100 * (size - 1))
            stack.paragraphs[at] = _put(stack.paragraphs[at], needle.sentence, place)
            stack.needles.append(needle)
            stack.at.append(at)
        made.append(stack)
    return made


def _put(paragraph: str, sentence: str, place: int) -> str:
    """A paragraph with a sentence more: the first of the document, the last of it, or in the middle."""
    sentences = [f"{one}." for one in paragraph.removesuffix(".").split(". ")]
    middle = {0: 0, 100: len(sentences)}.get(place, len(sentences) // 2)
    return " ".join([*sentences[:middle], sentence, *sentences[middle:]])


def stacks(keep: Kept, made: list[Stack], length: int, name: str) -> dict[str, Vectors]:
    """The vectors of the questions, the documents and their paragraphs; one row a paragraph of all documents."""
    encoder = EchoEncoder(on_truncate="ignore")
    texts, spans = [one.text for one in made], [one.spans() for one in made]
    asked = [needle.question for one in made for needle in one.needles]

    def late() -> Vectors:
        found = encoder.encode_chunks(texts, [[*own, (0, len(text))] for own, text in zip(spans, texts, strict=True)])
        return np.concatenate([*(rows[:-1] for rows in found), *(rows[-1:] for rows in found)])

    rows = keep(f"{name} {length} late", late)
    count = sum(map(len, spans))
    return {
        "queries": keep(f"{name} {length} queries", lambda: encoder.encode_queries(asked)),
        "late": rows[:count],
        "all": rows[count:],
        "beginning": keep(f"{name} {length} beginning", lambda: encoder.encode_documents(texts)),
        "alone": keep(f"{name} {length} alone", lambda: alone(encoder, [p for one in made for p in one.paragraphs])),
    }


def ways(vectors: Mapping[str, Vectors], made: list[Stack], *, best: int = BEST) -> dict[str, Vectors]:
    """For each way the scores of the documents: ``[questions, documents]``."""
    counts = [len(one.paragraphs) for one in made]
    ends = np.cumsum(counts)[:-1]

    def of(rows: Vectors, number: int) -> Vectors:
        pieces = np.split(vectors["queries"] @ rows.T, ends, axis=1)
        return np.stack([np.sort(piece, axis=1)[:, -number:].mean(axis=1) for piece in pieces], axis=1)

    return {
        "beginning": vectors["queries"] @ vectors["beginning"].T,
        "one vector": vectors["queries"] @ vectors["all"].T,
        f"alone, best {best}": of(vectors["alone"], best),
        f"late, best {best}": of(vectors["late"], best),
        "alone, best": of(vectors["alone"], 1),
        "late, best": of(vectors["late"], 1),
    }


def measured(keep: Kept, lengths: list[int], count: int) -> dict[str, dict[str, dict[int, Numbers]]]:
    """For "all" and "states" (vectors without their words): way, then length, then whether each question succeeds."""
    found: dict[str, dict[str, dict[int, Numbers]]] = {"all": {}, "states": {}}
    encoder = EchoEncoder()
    for length in lengths:
        made = documents(length, count)
        right = np.repeat(np.arange(count), len(PLACES)).tolist()
        vectors = stacks(keep, made, length, encoder.model_name)
        states = {name: parts(encoder, rows)[0] for name, rows in vectors.items()}
        for part, some in (("all", vectors), ("states", states)):
            for way, scores in ways(some, made).items():
                found[part].setdefault(way, {})[length] = success(scores, right)["accuracy@1"]
    return found


def report(found: Mapping[str, dict[int, Numbers]], lengths: list[int], count: int) -> None:
    """Print accuracy by length, then by place."""
    groups = [group for i in range(len(lengths)) for group in (np.repeat(np.arange(count), len(PLACES)) + i * count)]
    print("| way |" + "".join(f" {length} |" for length in lengths) + " all |" + "".join(f" {p} % |" for p in PLACES))
    print("| --- |" + " --: |" * (len(lengths) + 1 + len(PLACES)))
    for way, by_length in found.items():
        every = np.concatenate([by_length[length] for length in lengths])
        cells = [f"{100 * by_length[length].mean():.0f}" for length in lengths]
        cells += [f"{100 * every.mean():.1f} ± {100 * spread(every, groups):.1f}"]
        cells += [f"{100 * every[i :: len(PLACES)].mean():.0f}" for i in range(len(PLACES))]
        print(f"| {way} | {' | '.join(cells)} |")


def plot(found: Mapping[str, dict[int, Numbers]], lengths: list[int], path: Path) -> None:
    """Draw accuracy by length and by place."""
    import matplotlib as mpl

    from research.paper.figures import lines

    mpl.rcParams["svg.hashsalt"] = "echo-embeddings"
    by_length = {way: (lengths, [100 * float(one[n].mean()) for n in lengths]) for way, one in found.items()}
    figure = lines({"by length": by_length}, "tokens of a document", "first places, percent", log=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="a .npz file that keeps the vectors")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="in tokens (%(default)s)")
    parser.add_argument("--documents", type=int, default=12, help="of each length (%(default)s)")
    parser.add_argument("--plot", type=Path, help="an .svg file to draw")
    arguments = parser.parse_args(argv)
    lengths = [int(one) for one in arguments.lengths.split(",")]
    found = measured(Kept(arguments.output), lengths, arguments.documents)
    print(f"\n{arguments.documents} documents of each length, {arguments.documents * len(PLACES)} questions\n")
    report(found["all"], lengths, arguments.documents)
    print("\nvectors without their words:\n")
    report(found["states"], lengths, arguments.documents)
    if arguments.plot is not None:
        plot(found["all"], lengths, arguments.plot)


if __name__ == "__main__":
    main()
