"""The texts that the default model learned from: one file each for ``research/default_model/step_2_distill.yaml`` and ``default-2.yaml``.

    python -m research.default_model.step_1_texts TRAIN recipes/texts.jsonl
    python -m research.default_model.step_1_texts TRAIN recipes/texts-2.jsonl --count 64000 --everyday 16000

TRAIN is the folder of training data described in docs/training.md. Left out on purpose: captions and translations of
Flickr30k images (their terms forbid commercial use), the leaflets of nltk_pil and the posts of nltk_webtext (research,
or no terms at all), and whatever is not English. The order is random but always the same; of 123,214 texts the first
``--count`` are kept. Everyday sentences come from a grammar of our own (everyday.py).
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import everyday

SENTENCE_END = re.compile(r"(?<=[.!?])[\"”']?\s+(?=[A-Z\"“])")
LONGEST = 1200  # characters


def rows(train: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(train / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def texts_in(*files: Path) -> list[str]:
    """The texts of files of rows, in their order."""
    return [json.loads(line)["text"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def distinct(candidates: Iterable[str], rng: random.Random) -> list[str]:
    """Each text that is long enough once, in random order."""
    found = list(dict.fromkeys(text.strip() for text in candidates if len(text.strip()) >= 12))
    rng.shuffle(found)
    return found


def sentences(text: str) -> list[str]:
    return [part.strip() for part in SENTENCE_END.split(text) if 20 < len(part) < 300]


def sources(train: Path) -> dict[str, tuple[list[str], int]]:
    """Candidates of each kind, and how many are drawn."""
    books = [row["text"] for row in rows(train, "text/gutenberg_paragraphs")]
    manuals = [row["text"] for row in rows(train, "text/cppdocs")]
    papers = rows(train, "pairs/papers_title_abstract")
    medical = rows(train, "pairs/medquad_qa_hardneg")
    speeches = [row["text"] for name in ("state_union", "inaugural") for row in rows(train, f"text/nltk_{name}")]
    titled = [row for name in ("title_text", "heading_section") for row in rows(train, f"pairs/cppdocs_{name}")]
    return {
        "book sentences": (split(books), 16000),
        "book paragraphs": (books, 5000),
        "news": ([row["text"] for row in rows(train, "text/nltk_abc")], 24000),
        "speech sentences": (split(speeches), 4000),
        "manual paragraphs": (manuals, 4000),
        "manual sentences": (split(manuals), 4000),
        "manual headings": ([row["anchor"] for row in titled], 3000),
        "paper titles": ([row["anchor"] for row in papers], 14000),
        "paper abstracts": ([row["positive"] for row in papers], 9000),
        "abstract sentences": (split(row["positive"] for row in papers[:30000]), 9000),
        "paper summaries": ([row["anchor"] for row in rows(train, "pairs/papers_tldr_abstract")], 3059),
        "medical questions": ([row["anchor"] for row in medical], 7000),
        "medical answers": ([row["positive"] for row in medical], 5000),
        "medical sentences": (split(row["positive"] for row in medical), 7000),
        "shell tasks": ([row["anchor"].split(": ", 1)[-1] for row in rows(train, "pairs/tldr_task_command")], 3000),
        "plain sentences": (
            [row[side] for row in rows(train, "triples/cad_nli") for side in ("anchor", "positive", "negative")],
            6700,
        ),
    }


def split(texts: Iterable[str]) -> list[str]:
    return [part for text in texts for part in sentences(text)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=48000)
    parser.add_argument("--everyday", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(0)  # noqa: S311 - no secret
    drawn: list[tuple[str, str]] = []
    for kind, (candidates, count) in sources(arguments.train).items():
        drawn += [(kind, text[:LONGEST]) for text in distinct(candidates, rng)[:count]]
    rng.shuffle(drawn)
    drawn = drawn[: arguments.count] + [("everyday sentences", text) for text in everyday.sentences(arguments.everyday)]
    with arguments.output.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"kind": kind, "text": text}) + "\n" for kind, text in drawn)
    print(f"{len(drawn)} texts in {arguments.output}")


if __name__ == "__main__":
    main()
