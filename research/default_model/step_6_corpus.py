"""Step 6: take most of what the training data has, some 500,000 texts, for the last run.

    python -m research.default_model.step_6_corpus DATA corpus.jsonl

The sources are those of steps 1 and 4, and the same ones are left out. In the last run the texts that the built-in
model writes (step 7) come beside these.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from . import everyday
from .step_1_texts import sources
from .step_4_passages import Amounts, passages
from .texts import distinct, write

__all__ = ["main"]

#: Characters of a text that are kept; passages are shorter.
LONGEST = 900
#: The most texts of a kind. Of kinds that are not named here, all are taken.
AMOUNTS = {
    "book sentences": 60000,
    "book paragraphs": 16000,
    "manual paragraphs": 12000,
    "manual sentences": 16000,
    "manual headings": 12000,
    "paper titles": 60000,
    "paper abstracts": 20000,
    "abstract sentences": 40000,
    "medical sentences": 24000,
}
PASSAGES = Amounts(papers=16000, medicine=12000, manuals=8000, books=12000, news=8000)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of training data")
    parser.add_argument("output", type=Path, help="file that is written")
    arguments = parser.parse_args(argv)
    rng = random.Random(9)  # noqa: S311 - no secret
    texts: dict[str, str] = {}
    for kind, (candidates, _) in sources(arguments.data).items():
        taken = distinct(candidates, AMOUNTS.get(kind), rng)
        texts |= dict.fromkeys((text[:LONGEST] for text in taken), kind)
    for kind, text, asked in passages(arguments.data, PASSAGES, rng, set()):
        texts |= dict.fromkeys([text, *asked], kind)
    texts |= dict.fromkeys(everyday.sentences(everyday.ENOUGH), "everyday sentences")
    write(arguments.output, ({"kind": kind, "text": text} for text, kind in texts.items()))
    print(f"{len(texts)} texts in {arguments.output}")


if __name__ == "__main__":
    main()
