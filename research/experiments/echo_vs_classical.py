"""2026-11-20 to 2026-11-26. Does an echo still help when the model is fine-tuned with contrastive learning?

Yes, the paper's echo does. After 300 steps (three seeds) and for the same compute it has STS 78.9 and retrieval 84.5;
classical 69.6 and 75.4; late echo from layer 18 75.6 and 74.1. So late echo keeps a lead in similarity only. After 16
and 40 steps late echo was ahead of classical in both. Tables: research/log.md.

    python -m research.experiments.echo_vs_classical DATA DEV --seeds 3 --steps 300

DATA is the training data of research/default_model, DEV a folder of development sets as for ``benchmarks.quality``.
All arms have the same model up to layer 24, the same pairs, loss and learning rate. Vectors are standardised before
training, in each arm by its own statistics. ``late echo`` makes the copy at layer 18; ``echo`` repeats the tokens. An
arm with "same compute" takes fewer steps, so that all of them cost what ``classical`` costs; the column layer-tokens is
relative to that. STS is Spearman on the first 300 pairs of STS-B dev and SICK trial; retrieval is nDCG@10 on the first
10 queries of each set with 100 documents (``open_dataset``); both times 100. Texts are judged up to 128 tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from echo_embeddings import EchoConfig, EchoEncoder
from sentence_transformers_echo import from_encoder
from sentence_transformers_echo.training import Data, Lora, Recipe, train
from sentence_transformers_echo.training.data import read
from sentence_transformers_echo.training.judge import Judge

from .common import averages, development_sets, standardised

__all__ = ["main"]

DATA = (
    Data("pairs/papers_tldr_abstract.jsonl.gz"),
    Data("pairs/medquad_qa_hardneg.jsonl.gz", columns=("anchor", "positive"), limit=3000),
    Data("pairs/cppdocs_title_text.jsonl.gz", limit=3000),
    Data("triples/cad_nli.jsonl.gz"),
)
CLASSICAL = EchoConfig("{text}", exit_layer=24)
ECHO = EchoConfig("{text}\n{text}", exit_layer=24)
LATE = ECHO.replace(start_layer=18)


@dataclass(frozen=True)
class Arm:
    """What is compared.

    Attributes:
        name: in the table.
        config: that is trained.
        share: of the steps.
        cost: layer-tokens of a step, relative to ``classical``.
    """

    name: str
    config: EchoConfig
    share: float
    cost: float


# Costs of a step: 24 layers with one copy; with two copies; 18 layers with one and 6 with two.
ARMS = (
    Arm("classical", CLASSICAL, 1, 1),
    Arm("late echo, same steps", LATE, 1, 30 / 24),
    Arm("late echo, same compute", LATE, 24 / 30, 30 / 24),
    Arm("echo, same compute", ECHO, 1 / 2, 2),
)


def started(config: EchoConfig, data: Path) -> EchoConfig:
    """Standardise on 150 positives of each file."""
    texts = [text for entry in DATA for text in read(entry, data, seed=0)["positive"][:150]]
    return standardised(config, texts, max_length=64)


def judged(judge: Judge, encoder: EchoEncoder) -> tuple[float, float]:
    """The mean scores of STS and of retrieval."""
    return averages(judge(from_encoder(encoder)))


def runs(arguments: argparse.Namespace, judge: Judge) -> Iterator[tuple[str, int, int, float, float]]:
    """Yield arm, seed, steps, STS and retrieval: before training (as seed -1), then after it.

    All arms of a seed come before the next seed, so that a run that is stopped has compared all arms.
    """
    starts = {}
    for arm in ARMS:
        if arm.config not in starts:
            start = started(arm.config, arguments.data)
            starts[arm.config] = start, judged(judge, EchoEncoder(config=start, on_truncate="ignore"))
        yield arm.name, -1, 0, *starts[arm.config][1]
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for arm in ARMS:
            with tempfile.TemporaryDirectory() as folder:
                steps = round(arm.share * arguments.steps)
                recipe = Recipe(
                    DATA,
                    f"{folder}/model",
                    config=starts[arm.config][0],
                    steps=steps,
                    batch_size=32,
                    learning_rate=5e-4,
                    mini_batch_tokens=16384 if torch.cuda.is_available() else 2048,  # changes no result
                    lora=Lora(rank=16, alpha=32, first_layer=12),
                    max_length=64,  # of a text in training
                    seed=seed,
                    data_folder=str(arguments.data),
                    save_every=10_000,
                )
                trained = EchoEncoder(train(recipe, show_progress=False).folder, on_truncate="ignore")
                yield arm.name, seed, steps, *judged(judge, trained)


def table(results: list[tuple[str, int, int, float, float]]) -> str:
    """Format the results as Markdown, one row for each arm."""
    lines = ["| arm | steps | layer-tokens | STS before | STS | retrieval before | retrieval |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for arm in ARMS:
        own = [row for row in results if row[0] == arm.name]
        before, after = own[0], own[1:]
        cells = [f"{before[i]:.1f} | {spread([row[i] for row in after])}" for i in (3, 4)]
        lines.append(f"| {arm.name} | {after[0][2]} | {arm.share * arm.cost:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """The mean, the lowest and the highest."""
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of training data")
    parser.add_argument("dev", type=Path, help="folder of development sets")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (3)")
    parser.add_argument("--first-seed", type=int, default=0, help="so that two processes can share the work (0)")
    parser.add_argument("--steps", type=int, default=16, help="of the arms with all steps (16)")
    parser.add_argument("--json", type=Path, help="also write the scores of every run to this file")
    arguments = parser.parse_args(argv)
    judge = Judge(development_sets(arguments.dev, pairs=300, queries=10), max_length=128)
    results = []
    for row in runs(arguments, judge):
        results.append(row)
        print(f"{row[0]:26} seed {row[1]:2} steps {row[2]:3}  STS {row[3]:5.1f}  retrieval {row[4]:5.1f}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1))
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
