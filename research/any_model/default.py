"""Measure what a model without a saved config is run with, beside the paper's echo and a classical embedding.

    python -m research.any_model.default DEV --model NAME=FOLDER [--model ...] --output results.json [--tune]

Samples that were not used to choose the rule, the recipes or the length of words (those of ``states.py`` are left out):
pairs of similarity sets, and queries of retrieval sets among some hundred documents. Texts are truncated to 64 tokens.
With ``--tune`` also what ``tune`` chooses without labels, from 490 texts of the same sets that are in none of these
samples. The table that is printed stands in docs/guides/choose.md. What is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from echo_embeddings import EchoConfig, EchoEncoder, EncoderOptions, tune
from echo_embeddings.config.recipes import RULE
from echo_embeddings.data.files import whole_file
from echo_embeddings.evaluation.datasets import Dataset, Pairs, Retrieval
from research.any_model.states import samples
from research.paper.study import Study

#: Sets, with the most pairs; or with the most queries and documents.
SIMILARITY = {"stsb_en": 100, "sick_trial": 100, "stsb_de": 100}
RETRIEVAL = {"scitldr": (40, 100), "squad_devA": (40, 100)}
CONFIGS = ("chosen", "echo", RULE, "classical")
TUNED = "tuned"
LONGEST = 64  # content tokens


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not there yet, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m research.any_model.default")
    parser.add_argument("data", type=Path, help="a folder with sts/*.tsv and retrieval/*/")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FOLDER", help="repeatable")
    parser.add_argument("--output", type=Path, required=True, help="a JSON file")
    parser.add_argument("--tune", action="store_true", help="also what `tune` chooses")
    given = parser.parse_args(arguments)
    done: dict[str, dict[str, dict[str, float]]] = json.loads(given.output.read_text()) if given.output.exists() else {}
    sets = fresh(given.data)
    for model in given.model:
        name, _, folder = model.partition("=")
        for config in (*CONFIGS, *([TUNED] if given.tune else [])):
            if config in done.get(name, {}):
                continue
            started = time.monotonic()
            encoder = tuned(folder, given.data, sets) if config == TUNED else encoder_of(folder, config)
            done.setdefault(name, {})[config] = scores(encoder, sets)
            done[name][config]["seconds"] = round(time.monotonic() - started, 1)
            with whole_file(given.output) as path:
                path.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
            print(f"{name}, {config}: {done[name][config]}", flush=True)
    print(table(done))


def encoder_of(folder: str, config: str) -> EchoEncoder:
    """An encoder with a preset; ``"chosen"`` is what an encoder takes that is given no config."""
    encoder = EchoEncoder(folder, max_length=LONGEST, dtype="float32", on_truncate="ignore")
    if config == "chosen":
        return encoder
    return encoder.with_config(EchoConfig.preset(config).replace(max_length=LONGEST))


def unlabelled(data: Path, sets: Mapping[str, Dataset]) -> list[str]:
    """490 texts of the same sets that no sample has."""
    known = {text for dataset in sets.values() for part in dataset.texts for text in part}
    study, texts = Study(Path(), {}, data), []
    for name in SIMILARITY:
        others = [text for text in study.pairs(name, 0, 350).texts[0] if text not in known and len(text.split()) >= 8]
        texts += others[:90]
    for name in RETRIEVAL:
        whole = study.retrieval_all(name).documents
        others = [whole[one] for one in sorted(whole) if whole[one] not in known]
        texts += random.Random(0).sample(others, 110)  # noqa: S311 - no secret
    return texts


def tuned(folder: str, data: Path, sets: Mapping[str, Dataset]) -> EchoEncoder:
    """The encoder that ``tune`` gives, without labels and from texts that no sample has."""
    texts = unlabelled(data, sets)
    options = EncoderOptions(dtype="float32", on_truncate="ignore", max_length=LONGEST)
    found = tune(folder, texts, minutes=60, options=options)
    print(f"tune chose from {len(texts)} texts: {found.best}")
    return found.encoder


def scores(encoder: EchoEncoder, sets: Mapping[str, Dataset]) -> dict[str, float]:
    """100 times the metric of each set."""
    found = {}
    for name, dataset in sets.items():
        documents, queries = dataset.texts
        vectors = encoder.encode_documents(documents), encoder.encode_queries(queries)
        found[name] = round(dataset.score(*vectors), 2)
    return found


def fresh(data: Path) -> dict[str, Dataset]:
    """Samples by name, without the pairs and queries that the choice was made on."""
    used, study = samples(data), Study(Path(), {}, data)
    sets: dict[str, Dataset] = {}
    for name, most in SIMILARITY.items():
        whole, before = study.pairs(name, 0, most + 100), used[name]
        if not isinstance(before, Pairs):
            raise TypeError(f"{name} holds no pairs")
        known = set(zip(before.first, before.second, strict=True))
        rows = [row for row in zip(whole.scores, whole.first, whole.second, strict=True) if row[1:] not in known][:most]
        sets[name] = Pairs(*(list(side) for side in zip(*rows, strict=True)))
    for name, (queries, documents) in RETRIEVAL.items():
        larger, before = study.retrieval(name, 0, queries + 60, documents), used[name]
        if not isinstance(before, Retrieval):
            raise TypeError(f"{name} holds no queries")
        left = {query: of for query, of in larger.judgements.items() if query not in before.judgements}
        sets[name] = Retrieval(larger.documents, larger.queries, dict(list(left.items())[:queries]))
    return sets


def table(done: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The results as markdown: each set, and the averages of the two kinds."""
    lines = [
        f"| model | config | {' | '.join([*SIMILARITY, *RETRIEVAL])} | STS | nDCG@10 | seconds |",
        "|---|---|" + "--:|" * (len(SIMILARITY) + len(RETRIEVAL) + 3),
    ]
    for model, configs in done.items():
        for config, found in configs.items():
            cells = [f"{found[name]:.1f}" for name in (*SIMILARITY, *RETRIEVAL)]
            means = [f"{sum(found[name] for name in kind) / len(kind):.1f}" for kind in (SIMILARITY, RETRIEVAL)]
            lines.append(f"| {model} | {config} | {' | '.join([*cells, *means])} | {found['seconds']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
