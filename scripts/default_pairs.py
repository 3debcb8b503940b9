"""The pairs that the default model learned from in its third run: one file a kind for ``recipes/default-3.yaml``.

    python scripts/default_pairs.py TRAIN recipes/pairs

TRAIN is the folder of training data described in docs/training.md. The draw is random but always the same.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from default_texts import LONGEST, SHORTEST, rows

PAIR = ("anchor", "positive")
#: Name: source, columns, how many.
KINDS = {
    "titles": ("pairs/papers_title_abstract", PAIR, 6400),
    "tldr": ("pairs/papers_tldr_abstract", PAIR, 1600),
    "medquad": ("pairs/medquad_qa_hardneg", PAIR, 2400),
    "manuals": ("pairs/cppdocs_heading_section", PAIR, 1600),
    "nli": ("triples/cad_nli", (*PAIR, "negative"), 2222),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rng = random.Random(3)  # noqa: S311 - no secret
    for name, (source, columns, count) in KINDS.items():
        usable = [
            row for row in rows(arguments.train, source) if all(len(row[name].strip()) >= SHORTEST for name in columns)
        ]
        rng.shuffle(usable)
        kept = [{column: row[column][:LONGEST] for column in columns} for row in usable[:count]]
        path = arguments.output / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        print(f"{len(kept)} rows in {path}")


if __name__ == "__main__":
    main()
