"""Which texts the methods are tried on, and how much of them.

Texts are truncated before anything else, so that all methods and the words read the same. A sample of a retrieval set
keeps one or two relevant documents of each query, so that it stays small: the numbers compare methods, and are not
those of the whole sets. The sample after the last one is for fitting transforms, and is not scored.
"""

from __future__ import annotations

from dataclasses import dataclass

from echo_embeddings.evaluation.datasets import Dataset, Pairs, Retrieval
from echo_embeddings.text.tokenizer import EchoTokenizer
from research.paper.study import Study

__all__ = ["FULL", "KINDS", "QUICK", "Sizes", "fitting_texts", "sample_of", "sizes_of"]


@dataclass(frozen=True)
class Sizes:
    """How much is taken.

    Attributes:
        samples: how many samples are scored.
        pairs: pairs of each sample, by set.
        queries: queries of each sample, by set.
        documents: documents of each sample.
        relevant: the most relevant documents of a query that are kept.
        fitted: sentences of each set of pairs that transforms are fitted on, and half as many documents of each
            retrieval set.
        max_length: tokens of a text.
    """

    samples: int
    pairs: dict[str, int]
    queries: dict[str, int]
    documents: int
    relevant: int
    fitted: int
    max_length: int


#: About an hour of one slow core for two small models. MED has 30 queries, so four samples can have seven of them.
FULL = Sizes(
    samples=3,
    pairs={"stsb_en": 30, "sick_trial": 30, "stsb_de": 16},
    queries={"squad_devA": 6, "med": 4, "scitldr": 6},
    documents=16,
    relevant=2,
    fitted=16,
    max_length=48,
)
QUICK = Sizes(
    samples=2,
    pairs={"stsb_en": 12, "sick_trial": 12, "stsb_de": 8},
    queries={"squad_devA": 4, "med": 3, "scitldr": 4},
    documents=8,
    relevant=2,
    fitted=8,
    max_length=32,
)
#: Documents among which a sample's are looked for: more than are relevant to its queries (MED has up to 39 of each).
_MANY = 400
#: The sets of each kind of task.
KINDS = {"similarity": tuple(FULL.pairs), "retrieval": tuple(FULL.queries)}


def sizes_of(study: Study) -> Sizes:
    """How much the study takes."""
    return QUICK if study.quick else FULL


def sample_of(study: Study, name: str, sample: int, tokenizer: EchoTokenizer) -> Dataset:
    """One sample of a set, its texts truncated to so many tokens of the tokenizer."""
    sizes = sizes_of(study)
    if name in sizes.pairs:
        pairs = study.pairs(name, sample, sizes.pairs[name])
        sides = (_truncated(side, sizes.max_length, tokenizer) for side in (pairs.first, pairs.second))
        return Pairs(pairs.scores, *sides)
    found = _fewer(study.retrieval(name, sample, sizes.queries[name], _MANY), sizes)
    documents = _truncated(list(found.documents.values()), sizes.max_length, tokenizer)
    queries = _truncated(list(found.queries.values()), sizes.max_length, tokenizer)
    return Retrieval(
        dict(zip(found.documents, documents, strict=True)),
        dict(zip(found.queries, queries, strict=True)),
        found.judgements,
    )


def fitting_texts(study: Study, tokenizer: EchoTokenizer) -> list[str]:
    """Distinct texts that are in no sample: of each set of pairs, and of the documents of each retrieval set."""
    sizes = sizes_of(study)
    found: list[str] = []
    for name, size in sizes.pairs.items():
        found += study.pairs(name, sizes.samples, size).texts[0][: sizes.fitted]
    for name, queries in sizes.queries.items():
        scored = {
            one for sample in range(sizes.samples) for one in study.retrieval(name, sample, queries, _MANY).documents
        }
        others = study.retrieval(name, sizes.samples, queries, 2 * _MANY).documents
        found += [text for one, text in others.items() if one not in scored][: sizes.fitted // 2]
    return list(dict.fromkeys(_truncated(found, sizes.max_length, tokenizer)))


def _fewer(dataset: Retrieval, sizes: Sizes) -> Retrieval:
    """Keep at most ``relevant`` relevant documents of a query, and others up to ``documents``."""
    judged = {
        query: dict(
            [(one, gain) for one, gain in relevance.items() if gain > 0 and one in dataset.documents][: sizes.relevant]
        )
        for query, relevance in dataset.judgements.items()
    }
    relevant = {one for relevance in judged.values() for one in relevance}
    # What is relevant to a query of the sample, and was not kept, is no document that is relevant to nothing.
    dropped = {
        one for relevance in dataset.judgements.values() for one, gain in relevance.items() if gain > 0
    } - relevant
    others = [one for one in dataset.documents if one not in relevant | dropped]
    kept = relevant | set(others[: max(0, sizes.documents - len(relevant))])
    documents = {one: text for one, text in dataset.documents.items() if one in kept}
    return Retrieval(documents, dataset.queries, judged)


def _truncated(texts: list[str], limit: int, tokenizer: EchoTokenizer) -> list[str]:
    found = []
    for text in texts:
        offsets = tokenizer.offsets(text, spaced=True)
        found.append(text if len(offsets) <= limit else text[: offsets[limit - 1][1]])
    return found
