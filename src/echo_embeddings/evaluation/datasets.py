"""What embeddings are judged on: pairs with scores, texts that find their partners, and a folder in BEIR's layout."""

from __future__ import annotations

import csv
import math
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.data.formats import json_value, lines
from echo_embeddings.errors import InputError, warn
from echo_embeddings.extras import require
from echo_embeddings.text.tokenizer import whole_characters
from echo_embeddings.types import require_whole

from .metrics import ndcg_at_10, spearman

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Dataset", "Pairs", "Retrieval", "number", "open_dataset", "records"]

# Pairs that belong together, by the names that training data have.
_ANCHORED = ("anchor", "positive")
#: The fewest pairs or queries that can be parted in halves.
_FEWEST = 20
# The greatest relevance: pytrec_eval, which mteb asks, makes a list as long as the greatest that it sees.
_MOST_RELEVANT = 10_000


class Dataset(ABC):
    """Something that embeddings can be judged by."""

    metric: ClassVar[str]

    @property
    @abstractmethod
    def size(self) -> str:
        """What it holds, in words."""

    @property
    @abstractmethod
    def texts(self) -> tuple[list[str], list[str]]:
        """The distinct texts to embed, as documents and as queries."""

    @abstractmethod
    def score(self, documents: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
        """100 times the metric, given the vectors of :attr:`texts`."""

    @abstractmethod
    def parted(self, most: int) -> tuple[Self, Self]:
        """Two halves without a common pair or query, taken at random and always in the same way.

        Args:
            most: the most pairs of both together; of retrieval the most documents, and half as many queries. A document
                that is judged for one of these queries is always there.

        Raises:
            InputError: there is too little for two halves.
        """


@dataclass(frozen=True)
class Pairs(Dataset):
    """Pairs of sentences, and how alike people found them. Both go through the document template."""

    scores: list[float]
    first: list[str]
    second: list[str]
    metric: ClassVar[str] = "Spearman"

    @property
    def size(self) -> str:
        """The number of pairs."""
        return f"{len(self.scores)} pairs"

    @property
    def texts(self) -> tuple[list[str], list[str]]:
        """Both sides of every pair, as documents."""
        return list(dict.fromkeys(self.first + self.second)), []

    def score(self, documents: NDArray[np.float32], queries: NDArray[np.float32]) -> float:  # noqa: ARG002 - has none
        """Spearman x100 of the cosines with the judgements."""
        row = {text: i for i, text in enumerate(self.texts[0])}
        a, b = documents[[row[text] for text in self.first]], documents[[row[text] for text in self.second]]
        return 100 * spearman(np.einsum("nd,nd->n", a, b), self.scores)

    def parted(self, most: int) -> tuple[Pairs, Pairs]:
        """Two halves of the pairs."""
        a, b = _halves(list(range(len(self.scores))), most, "pairs")
        one, other = (
            Pairs(*([side[i] for i in rows] for side in (self.scores, self.first, self.second))) for rows in (a, b)
        )
        if alike := [half.scores[0] for half in (one, other) if len(set(half.scores)) < 2]:
            raise InputError(
                f"of {len(self.scores)} pairs, one half has the score {alike[0]:g} only, so there is nothing to rank; "
                "give more pairs with other scores"
            )
        return one, other


@dataclass(frozen=True)
class Retrieval(Dataset):
    """Queries, documents, and which of them belong together."""

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    metric: ClassVar[str] = "nDCG@10"

    @property
    def size(self) -> str:
        """The numbers of queries and documents."""
        return f"{len(self.judgements)} queries, {len(self.documents)} documents"

    @property
    def texts(self) -> tuple[list[str], list[str]]:
        """The documents, and the queries that are judged."""
        asked = [self.queries[query] for query in self.judgements]
        return list(dict.fromkeys(self.documents.values())), list(dict.fromkeys(asked))

    def score(self, documents: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
        """Mean nDCG@10 x100 over the judged queries."""
        found, asked = ({text: i for i, text in enumerate(texts)} for texts in self.texts)
        ids, rows = list(self.documents), [found[text] for text in self.documents.values()]
        values = [
            ndcg_at_10((documents @ queries[asked[self.queries[query]]])[rows], ids, relevance)
            for query, relevance in self.judgements.items()
        ]
        return 100 * float(np.mean(values))

    def parted(self, most: int) -> tuple[Retrieval, Retrieval]:
        """Two halves of the queries that have a relevant document; both have all documents that are kept."""
        answered = [
            query
            for query, gains in self.judgements.items()
            if any(gain > 0 and document in self.documents for document, gain in gains.items())
        ]
        a, b = _halves(answered, most // 2, "queries with a relevant document")
        judged = {document for query in a + b for document, gain in self.judgements[query].items() if gain > 0}
        others = [document for document in self.documents if document not in judged]
        kept = judged | set(random.Random(0).sample(others, min(len(others), max(0, most - len(judged)))))  # noqa: S311
        documents = {document: text for document, text in self.documents.items() if document in kept}
        if len(set(documents.values())) < 2:
            raise InputError(f"there are {len(self.queries)} queries and 1 document: there is nothing to find among")
        one, other = (
            Retrieval(documents, self.queries, {query: self.judgements[query] for query in half}) for half in (a, b)
        )
        return one, other


def _halves(of: list[Any], most: int, what: str) -> tuple[list[Any], list[Any]]:
    chosen = random.Random(0).sample(of, min(len(of), most))  # noqa: S311 - no secret
    if len(chosen) < _FEWEST:
        raise InputError(
            f"there are {len(of)} {what}; at least {_FEWEST} are needed, so that one half judges the other"
        )
    return chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]


def open_dataset(path: str | os.PathLike[str], limit: int | None = None) -> Dataset:
    """Read pairs with scores, pairs that belong together, or a BEIR folder.

    Args:
        path: a ``.tsv`` or ``.csv`` file with the columns ``score``, ``sentence1`` and ``sentence2``; one with the
            columns ``anchor`` and ``positive``, or a ``.jsonl`` file with these fields, as for training: each anchor is
            to find its positive among all of them; or a folder with ``corpus.jsonl``, ``queries.jsonl`` and
            ``qrels/test.tsv``.
        limit: use so many pairs; or so many queries, with their relevant documents and, of the others, as many as make
            ten times the limit (which makes the task easier). ``None`` uses all.

    Raises:
        InputError: it cannot be read as either, or ``limit`` is no whole number of at least 1.
        ImportError: it has pairs, and scipy is missing.
    """
    if limit is not None:
        require_whole("limit", limit, InputError)
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_beir(path, limit)
    if path.suffix.lower() not in (".tsv", ".csv", ".jsonl"):
        raise InputError(
            f"{path}: give a .tsv or .csv of score,sentence1,sentence2, or a folder in BEIR's layout; or a table or "
            ".jsonl of anchor,positive"
        )
    if path.suffix.lower() == ".jsonl":
        return _matched(path, _anchors(path), limit)
    if set(_ANCHORED) <= set(_header(path)):
        return _matched(path, (tuple(row[name] for name in _ANCHORED) for _, row in records(path, _ANCHORED)), limit)
    return _read_pairs(path, limit)


def _header(path: Path) -> list[str]:
    line = next((line for _, line in lines(path)), "")
    return line.rstrip("\r\n").split("\t") if path.suffix.lower() == ".tsv" else next(csv.reader([line]), [])


def _anchors(path: Path) -> Iterator[tuple[str, ...]]:
    for number, line in lines(path):
        if line.isspace():
            continue
        try:
            row = json_value(line)
            yield tuple(_string(row[name], name) for name in _ANCHORED)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}:{number}: this line is not an object with anchor and positive ({error!r})"
            ) from error


def _string(value: object, name: str) -> str:
    """A text as it is: ``null`` is not the text "None"."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r:.40}, not a string")
    return whole_characters(value)  # JSON can hold halves of characters; Arrow, of which mteb makes its data, cannot


def _matched(path: Path, rows: Iterator[tuple[str, ...]], limit: int | None) -> Retrieval:
    """Retrieval from pairs that belong together. A text that stands in several of them is one query or document."""
    queries: dict[str, str] = {}
    documents: dict[str, str] = {}
    judgements: dict[str, dict[str, int]] = {}
    for anchor, positive in rows:
        query = queries.setdefault(anchor, f"q{len(queries)}")
        judgements.setdefault(query, {})[documents.setdefault(positive, f"d{len(documents)}")] = 1
    if len(documents) < 2:
        raise InputError(f"{path} has {len(documents)} different positives: there is nothing to find among them")
    found, asked = ({id_: text for text, id_ in ids.items()} for ids in (documents, queries))
    judgements = dict(list(judgements.items())[:limit])
    return Retrieval(_limited(found, judgements, limit), asked, judgements)


def _read_pairs(path: Path, limit: int | None) -> Pairs:
    require("scipy", "evaluation", "comparing on pairs")
    scores: list[float] = []
    first: list[str] = []
    second: list[str] = []
    for place, row in records(path, ("score", "sentence1", "sentence2")):
        if len(scores) == limit:
            break
        scores.append(number(row["score"], place, "score"))
        first.append(row["sentence1"])
        second.append(row["sentence2"])
    if len(set(scores)) < 2:
        what = f"{path} has {len(scores)} pairs"
        if limit is not None and len(scores) == limit:
            what = f"{path}: with limit={limit} there are its first {limit} pairs"
        raise InputError(f"{what}, and not two different scores: there is nothing to rank")
    return Pairs(scores, first, second)


def _read_beir(folder: Path, limit: int | None) -> Retrieval:
    qrels = folder / "qrels" / "test.tsv"
    for path in (folder / "corpus.jsonl", folder / "queries.jsonl", qrels):
        if not path.is_file():
            raise InputError(
                f"{folder} has no {path.relative_to(folder)}; BEIR's layout is corpus.jsonl, queries.jsonl and "
                "qrels/test.tsv"
            )
    documents = _by_id(folder / "corpus.jsonl", lambda text, title: f"{title} {text}".strip())
    queries = _by_id(folder / "queries.jsonl", lambda text, _: text)
    judgements = dict(list(_judgements(qrels, queries).items())[:limit])
    if not judgements or not documents:
        raise InputError(f"{folder} has {len(judgements)} judged queries and {len(documents)} documents")
    _require_findable(folder, documents, judgements)
    return Retrieval(_limited(documents, judgements, limit), queries, judgements)


def _judgements(path: Path, queries: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """How relevant documents are, by query and document."""
    found: dict[str, dict[str, int]] = {}
    for place, row in records(path, ("query-id", "corpus-id", "score")):
        query, document = row["query-id"], row["corpus-id"]
        if query not in queries:
            raise InputError(f"{place}: there is no query {query!r} in queries.jsonl")
        gain = number(row["score"], place, "score")
        if not gain.is_integer() or abs(gain) > _MOST_RELEVANT:
            raise InputError(
                f"{place}: score is {row['score']!r}; how relevant a document is, is a whole number, at most "
                f"{_MOST_RELEVANT:,}"
            )
        if (before := found.setdefault(query, {}).setdefault(document, int(gain))) != gain:
            raise InputError(
                f"{place}: query {query!r} and document {document!r} stand there twice, with the scores {before} and "
                f"{gain:.0f}; keep one"
            )
    return found


def _require_findable(folder: Path, documents: Mapping[str, str], judgements: Mapping[str, Mapping[str, int]]) -> None:
    """Say what no model can find: it lowers every score.

    Raises:
        InputError: there is nothing else to find.
    """
    relevant = [document for gains in judgements.values() for document, gain in gains.items() if gain > 0]
    if not relevant:
        raise InputError(f"{folder} has {len(judgements)} judged queries, and none with a score above 0")
    absent = [document for document in relevant if document not in documents]
    if len(absent) == len(relevant):
        raise InputError(
            f"{folder}: none of the {len(relevant)} relevant documents of qrels/test.tsv is in corpus.jsonl, such as "
            f"{absent[0]!r}; is each _id the same in both?"
        )
    unanswered = sum(max(gains.values()) <= 0 for gains in judgements.values())
    if absent:
        warn(
            UserWarning(
                f"{folder}: {len(absent)} of {len(relevant)} relevant documents are not in corpus.jsonl, such as "
                f"{absent[0]!r}; they count as not found"
            )
        )
    if unanswered:
        warn(
            UserWarning(
                f"{folder}: {unanswered} of {len(judgements)} judged queries have no relevant document; each counts as "
                "0"
            )
        )


def _by_id(path: Path, made: Callable[[str, str], str]) -> dict[str, str]:
    """The text of each row by its ``_id``, as ``made`` makes it of the row's text and title."""
    found: dict[str, str] = {}
    for id_, text, title in _texts(path):
        if found.setdefault(id_, made(text, title)) != made(text, title):
            raise InputError(f"{path}: the _id {id_!r} stands there twice, with two texts; give each text its own")
    return found


def _limited(documents: dict[str, str], judgements: dict[str, dict[str, int]], limit: int | None) -> dict[str, str]:
    if limit is None:
        return documents
    judged = {document for relevance in judgements.values() for document, gain in relevance.items() if gain > 0}
    others = [document for document in documents if document not in judged]
    kept = judged | set(others[: max(10 * limit - len(judged), 0)])
    return {document: text for document, text in documents.items() if document in kept}


def _texts(path: Path) -> Iterator[tuple[str, str, str]]:
    """The ``_id``, the text and the title (empty if there is none) of each row."""
    for number, line in lines(path):
        if line.isspace():
            continue
        try:
            row = json_value(line)
            text, title = _string(row["text"], "text"), row.get("title")
            yield _id(row["_id"]), text, "" if title is None else _string(title, "title")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path}:{number}: this line is not an object with _id and text ({error!r})") from error


def _id(value: object) -> str:
    """An id as a string; some folders have whole numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _string(value, "_id")


def records(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a .tsv or .csv with a header, each with its place for messages, such as ``pairs.tsv:3``.

    TSV has no quoting: a quotation mark there is a quotation mark.

    Raises:
        InputError: a column is missing in the header or stands there twice, or a row has more or fewer cells than it,
            or is no CSV.
    """
    tabs = path.suffix.lower() == ".tsv"
    text = (line for _, line in lines(path))
    csv.field_size_limit(1 << 30)
    reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(text, strict=True)
    try:
        header = next(reader, [])
        if missing := [column for column in columns if column not in header]:
            raise InputError(
                f"{path}: there is no column {missing[0]!r} in its first line; it wants {', '.join(columns)}"
            )
        if twice := [column for column in columns if header.count(column) > 1]:
            raise InputError(f"{path} has two columns {twice[0]!r}; rename one")
        for cells in reader:
            if not cells:
                continue
            place = f"{path}:{reader.line_num}"
            if len(cells) != len(header):
                raise InputError(f"{place}: this row has {len(cells)} cells, but the header has {len(header)}")
            yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: this row cannot be read ({error})") from error


def number(cell: str, place: str, column: str) -> float:
    """The number that a cell holds.

    Raises:
        InputError: it holds none, or NaN or infinity, or what only Python takes for one (``4_5``); the message names
            the place.
    """
    with suppress(ValueError):
        if "_" not in cell and math.isfinite(found := float(cell)):
            return found
    raise InputError(f"{place}: {column} is {cell!r}, not a number")
