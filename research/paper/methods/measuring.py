"""Measure methods on a study's models. The study remembers what was measured; what it takes is made when needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from echo_embeddings.evaluation.datasets import Dataset
from echo_embeddings.types import Role
from research.paper.study import NotMeasured, Study, digest

from . import variants
from .method import Embedded, Method, Subject
from .samples import fitting_texts, sample_of, sizes_of
from .yardsticks import MiniLM

__all__ = ["Bench"]

NAME = "methods"


class Bench:
    """What methods are measured with. The weights of one model are held at a time.

    Args:
        study: the models, the data, and what was measured before.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._subject: tuple[str, Subject] | None = None
        self._samples: dict[tuple[str, str, int], Dataset] = {}
        self._texts: dict[str, list[str]] = {}
        self._fitted_on: dict[str, variants.Vectors] = {}
        self._filters: dict[str, Callable[[variants.Vectors], variants.Vectors]] = {}

    def scores(self, model: str, method: Method, name: str, sample: int) -> dict[str, Any]:
        """One method on one sample of a set.

        Returns:
            ``scores``: the metric of each variant; ``layer_tokens``; ``seconds``: processor time of the pass.
        """
        key = self._key(model, name, sample) | {"method": method.name, "settings": digest(method.settings)}
        compute = partial(self._scored, model, method, name, sample)
        found: dict[str, Any] = self._study.once(NAME, key, compute, self._digest)
        return found

    def words(self, model: str, name: str, sample: int) -> float:
        """The score of the words alone, on the same texts."""

        def compute() -> float:
            return round(variants.words_alone(self._data(model, name, sample)), 4)

        score: float = self._study.once(f"{NAME}: words", self._key(model, name, sample), compute, self._digest)
        return score

    @cached_property
    def _digest(self) -> str | None:
        """Of all sets, because transforms are fitted on all; ``None`` if not all are there."""
        sizes = sizes_of(self._study)
        try:
            sets = [self._study.pairs_all(name) for name in sizes.pairs]
            return digest([digest(one) for one in (*sets, *map(self._study.retrieval_all, sizes.queries))])
        except NotMeasured:
            return None

    def _key(self, model: str, name: str, sample: int) -> dict[str, Any]:
        sizes = digest(vars(sizes_of(self._study)))
        weights = self._study.fingerprint(model)
        return {"model": model, "weights": weights, "data": name, "sample": sample, "sizes": sizes}

    def _scored(self, model: str, method: Method, name: str, sample: int) -> dict[str, Any]:
        data = self._data(model, name, sample)
        documents, queries = data.texts
        parts = [self._embed(model, method, documents, "document")]
        parts += [self._embed(model, method, queries, "query")] if queries else []
        maps = variants.transforms(self._vectors_to_fit(model, method), self._filter(model, method))
        found = variants.scores(data, parts[0].vectors, parts[1].vectors if queries else None, maps)
        return {
            "scores": {variant: round(score, 4) for variant, score in found.items()},
            "layer_tokens": sum(part.layer_tokens for part in parts),
            "seconds": round(sum(part.seconds or 0.0 for part in parts), 3),
        }

    def _embed(self, model: str, method: Method, texts: Sequence[str], role: Role) -> Embedded:
        subject = self._of(model)
        started = time.process_time()
        found = method.embed(subject, texts, role)
        if found.seconds is not None:
            return found
        return Embedded(found.vectors, found.layer_tokens, time.process_time() - started)

    def _of(self, model: str) -> Subject:
        if self._subject is None or self._subject[0] != model:
            self._subject = None  # freed before the next one is loaded
            self._subject = model, Subject(*self._study.loaded(model))
        return self._subject[1]

    def _data(self, model: str, name: str, sample: int) -> Dataset:
        key = model, name, sample
        if key not in self._samples:
            self._samples[key] = sample_of(self._study, name, sample, self._of(model).echo_tokenizer)
        return self._samples[key]

    def _vectors_to_fit(self, model: str, method: Method) -> variants.Vectors:
        key = f"{model} {method.settings}"
        if key not in self._fitted_on:
            if model not in self._texts:
                self._texts[model] = fitting_texts(self._study, self._of(model).echo_tokenizer)
            found = method.embed(self._of(model), self._texts[model], "document")
            self._fitted_on[key] = np.array(found.vectors)
        return self._fitted_on[key]

    def _filter(self, model: str, method: Method) -> Callable[[variants.Vectors], variants.Vectors] | None:
        if isinstance(method, MiniLM):
            return None
        subject = self._of(model)
        if model not in self._filters:
            self._filters[model] = variants.filtering(subject.unembedding())
        kept = self._filters[model]
        return kept if method.ends_with_norm(subject.depth) else lambda vectors: kept(subject.normed(vectors))
