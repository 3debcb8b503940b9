"""What the experiments share: their development sets, and a start from standardised vectors."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.evaluation.datasets import Dataset, open_dataset

__all__ = ["averages", "development_sets", "standardised"]

STS = ("stsb_en", "sick_trial")
RETRIEVAL = ("scitldr", "squad_devA", "climate_fever_sentences")


def development_sets(dev: Path, pairs: int | None, queries: int) -> dict[str, Dataset]:
    """Open the sets by name.

    Args:
        dev: folder with ``sts/*.tsv`` and ``retrieval/*/``, as for ``benchmarks.quality``.
        pairs: the first of each STS set that are used; ``None`` for all.
        queries: the first of each retrieval set that are used, with ten documents for each.
    """
    sets = {name: open_dataset(dev / "sts" / f"{name}.tsv", pairs) for name in STS}
    return sets | {name: open_dataset(dev / "retrieval" / name, queries) for name in RETRIEVAL}


def averages(scores: Mapping[str, float]) -> tuple[float, float]:
    """The mean scores of STS and of retrieval."""
    sts, retrieval = (statistics.mean(scores[name] for name in names) for names in (STS, RETRIEVAL))
    return sts, retrieval


def standardised(config: EchoConfig, texts: list[str], max_length: int) -> EchoConfig:
    """Add a ``Standardize`` fitted on texts, as ``zero-shot`` has one: contrastive learning starts from it.

    Args:
        config: without transforms.
        texts: some hundred.
        max_length: content tokens to which they are truncated; the config keeps its own.
    """
    encoder = EchoEncoder(config=config.replace(max_length=max_length), on_truncate="ignore")
    return encoder.fit_transforms(texts).config.replace(max_length=config.max_length)
