"""Step 1: draw the texts of the first two runs from the training data.

    python -m research.default_model.step_1_texts DATA texts-1.jsonl
    python -m research.default_model.step_1_texts DATA texts-2.jsonl --count 64000 --everyday 16000

DATA is the folder that README.md describes. Left out on purpose are captions and translations of Flickr30k images
(their terms forbid commercial use), the leaflets of nltk_pil and the posts of nltk_webtext (for research only, or no
terms at all), and what is not English. The order is random but always the same: of 123,214 texts the first ``--count``
are kept. Everyday sentences come from a grammar of this project (everyday.py).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from pathlib import Path

from . import everyday
from .texts import distinct, draw, rows, sentences, write

__all__ = ["main", "sources"]

#: Characters of a text that are kept.
LONGEST = 1200


def sources(data: Path) -> dict[str, tuple[list[str], int]]:
    """The candidates of each kind, and how many of them are drawn."""
    books = [row["text"] for row in rows(data, "text/gutenberg_paragraphs")]
    manuals = [row["text"] for row in rows(data, "text/cppdocs")]
    papers = rows(data, "pairs/papers_title_abstract")
    medical = rows(data, "pairs/medquad_qa_hardneg")
    speeches = [row["text"] for name in ("state_union", "inaugural") for row in rows(data, f"text/nltk_{name}")]
    titled = [row for name in ("title_text", "heading_section") for row in rows(data, f"pairs/cppdocs_{name}")]
    return {
        "book sentences": (split(books), 16000),
        "book paragraphs": (books, 5000),
        "news": ([row["text"] for row in rows(data, "text/nltk_abc")], 24000),
        "speech sentences": (split(speeches), 4000),
        "manual paragraphs": (manuals, 4000),
        "manual sentences": (split(manuals), 4000),
        "manual headings": ([row["anchor"] for row in titled], 3000),
        "paper titles": ([row["anchor"] for row in papers], 14000),
        "paper abstracts": ([row["positive"] for row in papers], 9000),
        "abstract sentences": (split(row["positive"] for row in papers[:30000]), 9000),
        "paper summaries": ([row["anchor"] for row in rows(data, "pairs/papers_tldr_abstract")], 3059),
        "medical questions": ([row["anchor"] for row in medical], 7000),
        "medical answers": ([row["positive"] for row in medical], 5000),
        "medical sentences": (split(row["positive"] for row in medical), 7000),
        "shell tasks": ([row["anchor"].split(": ", 1)[-1] for row in rows(data, "pairs/tldr_task_command")], 3000),
        "plain sentences": (
            [row[side] for row in rows(data, "triples/cad_nli") for side in ("anchor", "positive", "negative")],
            6700,
        ),
    }


def split(texts: Iterable[str]) -> list[str]:
    """The sentences of all texts."""
    return [part for text in texts for part in sentences(text)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of training data")
    parser.add_argument("output", type=Path, help="file that is written")
    parser.add_argument("--count", type=int, default=48000, help="texts of the data (48000)")
    parser.add_argument("--everyday", type=int, default=0, help="everyday sentences beside them (0)")
    arguments = parser.parse_args(argv)
    rng = random.Random(0)  # noqa: S311 - no secret
    drawn: list[tuple[str, str]] = []
    for kind, (candidates, count) in sources(arguments.data).items():
        drawn += [(kind, text[:LONGEST]) for text in distinct(candidates, count, rng)]
    drawn = draw(drawn, arguments.count, rng)
    drawn += [("everyday sentences", text) for text in everyday.sentences(arguments.everyday)]
    write(arguments.output, ({"kind": kind, "text": text} for kind, text in drawn))
    print(f"{len(drawn)} texts in {arguments.output}")


if __name__ == "__main__":
    main()
