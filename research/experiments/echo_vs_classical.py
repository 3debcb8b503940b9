"""Does an echo still help once the model is fine-tuned? Contrastive training of each, several seeds, equal budgets.

    python -m research.experiments.echo_vs_classical TRAIN DEV --seeds 3 --steps 16

All arms have the same model up to layer 24, the same pairs, loss and learning rate; vectors are standardised before
training, in each arm by its own statistics. ``late echo`` makes the copy at layer 18; ``echo`` repeats the tokens. The
arms named "same compute" have as many steps as cost what ``classical`` costs; layer-tokens are in units of its own.
Scores: STS is Spearman on the first 300 pairs of STS-B dev and SICK trial, retrieval nDCG@10 on the first 10 queries of
each set with 100 documents (see ``open_dataset``); both times 100.
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
from echo_embeddings.evaluation.datasets import open_dataset
from sentence_transformers_echo import from_encoder
from sentence_transformers_echo.training import Data, Lora, Recipe, train
from sentence_transformers_echo.training.data import read
from sentence_transformers_echo.training.judge import Judge

STS = ("stsb_en", "sick_trial")
RETRIEVAL = ("scitldr", "squad_devA", "climate_fever_sentences")
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
    """What is compared: a configuration, and how many of the steps it gets."""

    name: str
    config: EchoConfig
    share: float
    cost: float


# Layer-tokens of one step: 24 layers over one copy; over two; 18 over one and 6 over two.
ARMS = (
    Arm("classical", CLASSICAL, 1, 1),
    Arm("late echo, same steps", LATE, 1, 30 / 24),
    Arm("late echo, same compute", LATE, 24 / 30, 30 / 24),
    Arm("echo, same compute", ECHO, 1 / 2, 2),
)


def standardised(config: EchoConfig, train_folder: Path) -> EchoConfig:
    texts = [text for entry in DATA for text in read(entry, train_folder, seed=0)["positive"][:150]]
    return EchoEncoder(config=config.replace(max_length=64), on_truncate="ignore").fit_transforms(texts).config


def judged(judge: Judge, folder: Path | EchoEncoder) -> tuple[float, float]:
    encoder = folder if isinstance(folder, EchoEncoder) else EchoEncoder(folder, on_truncate="ignore")
    scores = judge(from_encoder(encoder.with_config(encoder.config.replace(max_length=128))))
    return tuple(statistics.mean(scores[name] for name in names) for names in (STS, RETRIEVAL))


def runs(arguments: argparse.Namespace, judge: Judge) -> Iterator[tuple[str, int, int, float, float]]:
    """Each arm before training, as seed -1, then seed by seed: a run that is cut short has compared all arms."""
    starts = {}
    for arm in ARMS:
        if arm.config not in starts:
            start = standardised(arm.config, arguments.train)
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
                    max_length=64,
                    seed=seed,
                    data_folder=str(arguments.train),
                    save_every=10_000,
                )
                yield arm.name, seed, steps, *judged(judge, train(recipe, show_progress=False).folder)


def table(results: list[tuple[str, int, int, float, float]]) -> str:
    lines = ["| arm | steps | layer-tokens | STS before | STS | retrieval before | retrieval |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for arm in ARMS:
        own = [row for row in results if row[0] == arm.name]
        before, after = own[0], own[1:]
        cells = [f"{before[i]:.1f} | {spread([row[i] for row in after])}" for i in (3, 4)]
        lines.append(f"| {arm.name} | {after[0][2]} | {arm.share * arm.cost:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="so that two processes can share the work")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--json", type=Path, default=None, help="also write every run's scores here")
    arguments = parser.parse_args()
    sets = {name: open_dataset(arguments.dev / "sts" / f"{name}.tsv", 300) for name in STS}
    judge = Judge(sets | {name: open_dataset(arguments.dev / "retrieval" / name, 10) for name in RETRIEVAL})
    results = []
    for row in runs(arguments, judge):
        results.append(row)
        print(f"{row[0]:26} seed {row[1]:2} steps {row[2]:3}  STS {row[3]:5.1f}  retrieval {row[4]:5.1f}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1))
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
