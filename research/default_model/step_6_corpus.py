"""All that the data has for the last run of the default: ``recipes/texts-6.jsonl``, some 500,000 texts.

    python -m research.default_model.step_6_corpus TRAIN recipes/texts-6.jsonl

The sources are those of default_texts.py and default_passages.py, and so is what is left out; here most of each is
taken. The built-in model's own texts (default_sampled.py) come beside it.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import everyday
from default_passages import Amounts, passages
from default_texts import distinct, sources

LONGEST = 900  # characters
#: Of kinds that are not named here, all are taken.
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
WHOLE = Amounts(papers=16000, medicine=12000, manuals=8000, books=12000, news=8000)
EVERYDAY = 40000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(9)  # noqa: S311 - no secret
    texts: dict[str, str] = {}
    for kind, (candidates, _) in sources(arguments.train).items():
        taken = distinct(candidates, rng)[: AMOUNTS.get(kind)]
        texts |= dict.fromkeys((text[:LONGEST] for text in taken), kind)
    for kind, text, asked in passages(arguments.train, WHOLE, rng, set()):
        texts |= dict.fromkeys([text, *asked], kind)
    texts |= dict.fromkeys(everyday.sentences(EVERYDAY), "everyday sentences")
    with arguments.output.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"kind": kind, "text": text}) + "\n" for text, kind in texts.items())
    print(f"{len(texts)} texts in {arguments.output}")


if __name__ == "__main__":
    main()
