"""Fine-tune the model on pairs of your own: here, what Python's functions are for and where they are described."""

import importlib
import inspect
import json
import sys
import tempfile
from pathlib import Path

from echo_embeddings import EchoEncoder
from sentence_transformers_echo.training import Data, Lora, Recipe, train

MODULES = (
    "bisect calendar csv datetime fractions glob heapq json locale random shutil statistics string textwrap zipfile"
)


def pairs() -> list[dict[str, str]]:
    """A function's name and parameters, as a question; the first paragraph of its description, as the answer."""
    found = {}
    for name in MODULES.split():
        for member, value in vars(importlib.import_module(name)).items():
            text = inspect.getdoc(value) if inspect.isroutine(value) and not member.startswith("_") else None
            if text and len(text) > 40:
                found[text] = {"anchor": f"{name} {member}".replace("_", " "), "positive": text.split("\n\n")[0]}
    return list(found.values())


def first_hits(encoder: EchoEncoder, asked: list[dict[str, str]], answers: list[str]) -> float:
    """The part of the questions whose answer comes first."""
    queries = encoder.encode_queries([pair["anchor"] for pair in asked])
    best = encoder.similarity(queries, encoder.encode_documents(answers)).argmax(axis=1)
    return sum(answers[place] == pair["positive"] for pair, place in zip(asked, best, strict=True)) / len(asked)


rows = pairs()
answers = [row["positive"] for row in rows]
held_out, learned = rows[::3], [row for i, row in enumerate(rows) if i % 3]

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in learned), encoding="utf-8")
    recipe = Recipe(
        data=[Data(str(path))],
        output=f"{folder}/model",
        steps=int(sys.argv[1]) if len(sys.argv) > 1 else 30,
        batch_size=32,
        lora=Lora(rank=8, first_layer=12),
        max_length=64,
    )
    train(recipe)
    before = first_hits(EchoEncoder(config="zero-shot"), held_out, answers)
    after = first_hits(EchoEncoder(f"{folder}/model"), held_out, answers)

print(
    f"{len(held_out)} questions not learned from: the answer comes first for {before:.0%}, after training {after:.0%}"
)
