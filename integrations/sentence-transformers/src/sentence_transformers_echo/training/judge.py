"""Score a model on development sets during training, with the same numbers as ``echo-embeddings compare``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from echo_embeddings import ConfigError
from echo_embeddings.config.config import Length
from echo_embeddings.evaluation.datasets import Dataset, open_dataset

__all__ = ["Judge"]


class Judge(SentenceEvaluator):
    """An evaluator that scores a model on every set: Spearman or nDCG@10, times 100; ``average`` is their mean.

    Args:
        sets: data sets by name.
        max_length: the most content tokens of a text that are embedded. It also holds while training uses shorter
            texts, so that scores before, during and after training are comparable.
    """

    def __init__(self, sets: Mapping[str, Dataset], max_length: Length) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the base class has no types
        self.sets, self.max_length = dict(sets), max_length
        self.primary_metric = "average"

    @classmethod
    def open(cls, paths: Sequence[str], folder: Path, limit: int | None, max_length: Length) -> Judge | None:
        """Open files of pairs and BEIR folders.

        Args:
            paths: the files and folders.
            folder: the folder that relative paths start from.
            limit: the most queries or pairs of each set; ``None`` for all.
            max_length: as for the class.

        Returns:
            The judge, or ``None`` if ``paths`` is empty.

        Raises:
            InputError: a set cannot be read.
            ConfigError: two sets have the same name.
        """
        found = [folder / Path(path).expanduser() for path in paths]
        sets = {path.stem: open_dataset(path, limit) for path in found}
        if len(sets) < len(found):
            raise ConfigError(f"evaluate: two sets have the same name among {', '.join(path.stem for path in found)}")
        return cls(sets, max_length) if sets else None

    def __call__(  # type: ignore[override]  # narrower than any BaseModel: roles are SentenceTransformer's
        self, model: SentenceTransformer, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """The scores by name of the set. Nothing is written to ``output_path``."""
        del output_path, epoch, steps
        with _reading(model, self.max_length):
            scores = {name: dataset.score(*self._vectors(model, dataset)) for name, dataset in self.sets.items()}
        return scores | {"average": float(np.mean(list(scores.values())))}

    @staticmethod
    def _vectors(model: SentenceTransformer, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        documents, queries = dataset.texts
        embedded = [
            np.asarray(encode(texts, batch_size=256, show_progress_bar=False), np.float32)
            if texts
            else np.empty((0, 0))
            for encode, texts in ((model.encode_document, documents), (model.encode_query, queries))
        ]
        return embedded[0], embedded[1]


@contextmanager
def _reading(model: SentenceTransformer, tokens: Any) -> Iterator[None]:
    """Set the model's ``max_seq_length`` to ``tokens`` for the ``with`` block."""
    usual, model.max_seq_length = model.max_seq_length, tokens
    try:
        yield
    finally:
        model.max_seq_length = usual
