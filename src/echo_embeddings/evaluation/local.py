"""Data of one's own for the seven kinds of tasks that mteb scores: what a path holds, and its rows. Knows no mteb.

What a path holds is seen from its name and its first rows; :data:`FORMATS` says how.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo_embeddings.data.formats import json_value, lines
from echo_embeddings.errors import InputError
from echo_embeddings.text.tokenizer import whole_characters

from .datasets import Retrieval, number, open_dataset, records

__all__ = ["FORMATS", "Labelled", "LocalData", "Ranking", "find_local", "open_local"]

#: What can be read, for messages.
FORMATS = """\
  retrieval            a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv (BEIR's layout)
  similarity (STS)     a .tsv or .csv with the columns score, sentence1, sentence2
  pair classification  the same, and every score is 0 or 1
  bitext mining        a .tsv or .csv with the columns sentence1, sentence2; or a .tsv with two columns and no header
  reranking            a .jsonl of {"question", "answer", "label"} with labels 0 and 1,
                       or of {"query", "positive", "negative"}, the last two being lists
  clustering           a .jsonl of {"text", "label"}
  classification       a folder with train.jsonl and test.jsonl (or val.jsonl) of {"text", "label"};
                       with all.jsonl alone it is tested across itself"""

_TABLES = (".tsv", ".csv")
_SUFFIXES = (*_TABLES, ".jsonl")
_PAIR = ("sentence1", "sentence2")
# Files of a folder that make it a data set, the file to be tested on first.
_BEIR = ("corpus.jsonl", "queries.jsonl", "qrels")
_TESTED = ("test.jsonl", "val.jsonl")
_TRAIN, _ALL = "train.jsonl", "all.jsonl"
# mteb writes it into the folder of results, which may lie among the data.
_OF_RESULTS = "run_settings.jsonl"
# The most bytes of a data set's name in the name of its task: files of results have a little more, and at most 255.
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Ranking:
    """A question, and the candidates that are to be ranked for it: the right ones have the label 1."""

    query: str
    candidates: list[str]
    labels: list[int]


@dataclass(frozen=True)
class Labelled:
    """Texts, and the class of each: 0 and up, in the order of the labels' names."""

    texts: list[str]
    labels: list[int]


@dataclass(frozen=True)
class LocalData:
    """One data set on this machine.

    Attributes:
        kind: as mteb calls it: ``"STS"``, ``"PairClassification"``, ``"BitextMining"``, ``"Retrieval"``,
            ``"Reranking"``, ``"Classification"`` or ``"Clustering"``.
        path: the file or folder.
        digest: SHA-256 (hex) of the files that are read, names included.
        read: reads the rows, and raises ``InputError`` if the files are no longer those of the digest. Pairs are
            ``{"sentence1": [...], "sentence2": [...]}``, with ``"score"`` unless bitext; retrieval is a
            :class:`Retrieval`, reranking a list of :class:`Ranking`, clustering a :class:`Labelled`, and classification
            ``{"train": Labelled, "test": Labelled}``, or ``{"test": Labelled}`` to be tested across itself.
    """

    kind: str
    path: Path
    digest: str
    read: Callable[[], Any]

    @property
    def name(self) -> str:
        """What a reader calls it: the name of the file without its suffix, or of the folder.

        What cannot be printed in it, such as bytes that are no UTF-8, becomes U+FFFD.
        """
        name = self.path.name if self.path.is_dir() else self.path.stem
        return "".join(one if one.isprintable() else "\ufffd" for one in name)

    @property
    def task_name(self) -> str:
        """A name that no other content has, and that is fit for a file."""
        plain = re.sub(r"[^\w.@+-]", "_", self.name).encode()[:_LONGEST_NAME].decode(errors="ignore")
        return f"{plain}-{self.digest[:8]}"


def open_local(path: str | os.PathLike[str]) -> LocalData:
    """Find out what a file or folder holds, and read it once to see that all of it can be used.

    Raises:
        InputError: it is none of :data:`FORMATS`, or a row cannot be used; the message names file and line.
    """
    path = Path(path).expanduser().resolve()
    kind, files, read = _folder(path) if path.is_dir() else _file(path)
    read()
    digest = _digest(path, files)

    def unchanged() -> Any:
        try:
            rows = read()
            if _digest(path, files) == digest:
                return rows
        except OSError as error:
            raise InputError(f"{path} can no longer be read: {error.strerror or error}") from error
        raise InputError(f"{path} has changed since this run began; run the same again to evaluate it as it is now")

    return LocalData(kind, path, digest, unchanged)


def find_local(path: str | os.PathLike[str]) -> list[LocalData]:
    """The data set at a path; or, where that is a folder of others, all that are in it, in the order of their paths.

    Files of other suffixes than .tsv, .csv and .jsonl are passed by, and so is what is hidden.

    Raises:
        InputError: nothing is there, or a file with such a suffix holds none of :data:`FORMATS`.
    """
    path = Path(path).expanduser().resolve()
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    found = list(_paths(path, set()))
    if not found:
        raise InputError(f"{path} holds no data set. What can be read:\n{FORMATS}")
    return [open_local(one) for one in found]


def _paths(path: Path, seen: set[Path]) -> Iterator[Path]:
    """Data sets at or below a path. ``seen`` are the folders that were looked into: links can lead back to one."""
    if path.is_file() or _is_data_set(path):
        yield path
        return
    if (folder := path.resolve()) in seen:
        return
    seen.add(folder)
    for inner in sorted(path.iterdir()):
        if inner.name.startswith(".") or inner.name == _OF_RESULTS:
            continue
        if inner.is_dir() or inner.suffix.lower() in _SUFFIXES:
            yield from _paths(inner, seen)


def _is_data_set(folder: Path) -> bool:
    return any((folder / name).exists() for name in (*_BEIR, _TRAIN, _ALL))


_Found = tuple[str, list[Path], Callable[[], Any]]


def _folder(folder: Path) -> _Found:
    if any((folder / name).exists() for name in _BEIR):
        files = [folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / "test.tsv"]
        return "Retrieval", files, lambda: _retrieval(folder)
    if (folder / _TRAIN).is_file():
        tested = next((folder / name for name in _TESTED if (folder / name).is_file()), None)
        if tested is None:
            raise InputError(f"{folder} has {_TRAIN}, but neither {' nor '.join(_TESTED)} to test on")
        return "Classification", [folder / _TRAIN, tested], lambda: _classification(folder / _TRAIN, tested)
    if (folder / _ALL).is_file():
        return "Classification", [folder / _ALL], lambda: {"test": _labelled(folder / _ALL)}
    raise _unknown(folder, "is no data set")


def _file(path: Path) -> _Found:
    if not path.is_file():
        raise InputError(f"there is no file or folder {path}")
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        return _table(path)
    if suffix != ".jsonl":
        raise _unknown(path, f"has the suffix {suffix!r}")
    for _, row in _objects(path):
        if {"text", "label"} <= set(row):
            return "Clustering", [path], lambda: _labelled(path)
        if {"question", "answer", "label"} <= set(row):
            return "Reranking", [path], lambda: _candidates(path)
        if {"query", "positive", "negative"} <= set(row):
            return "Reranking", [path], lambda: _lists_of_candidates(path)
        raise _unknown(path, f"has the fields {', '.join(row) or 'of an empty object'} in its first line")
    raise InputError(f"{path} is empty")


def _table(path: Path) -> _Found:
    first = next((line.rstrip("\r\n") for _, line in lines(path)), None)
    if first is None:
        raise InputError(f"{path} is empty")
    cells = first.split("\t") if path.suffix.lower() == ".tsv" else next(csv.reader([first]), [])
    if {"score", *_PAIR} <= set(cells):
        judged = len(set(_pairs(path)["score"]) - {0.0, 1.0}) == 0
        return "PairClassification" if judged else "STS", [path], lambda: _pairs(path)
    if set(_PAIR) <= set(cells):
        return "BitextMining", [path], lambda: _translations(path)
    if path.suffix.lower() == ".tsv" and len(cells) == 2:
        return "BitextMining", [path], lambda: _plain_translations(path)
    raise _unknown(path, f"begins with the line {first[:80]!r}")


def _unknown(path: Path, why: str) -> InputError:
    return InputError(f"{path} {why}, and so it is none of what can be read:\n{FORMATS}")


def _retrieval(folder: Path) -> Retrieval:
    found = open_dataset(folder)
    assert isinstance(found, Retrieval)  # noqa: S101 - for type checkers: it is a folder
    return found


def _pairs(path: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"sentence1": [], "sentence2": [], "score": []}
    for place, row in records(path, ("score", *_PAIR)):
        found["score"].append(number(row["score"], place, "score"))
        for column in _PAIR:
            found[column].append(row[column])
    if len(set(found["score"])) < 2:
        raise InputError(f"{path} has {len(found['score'])} pairs, and not two different scores: nothing can be ranked")
    return found


def _translations(path: Path) -> dict[str, list[str]]:
    rows = [row for _, row in records(path, _PAIR)]
    return _enough(path, {column: [row[column] for row in rows] for column in _PAIR})


def _plain_translations(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {column: [] for column in _PAIR}
    for count, line in lines(path):
        if line.isspace():
            continue
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) != 2:
            raise InputError(f"{path}:{count}: this row has {len(cells)} cells; a translation has 2")
        for column, cell in zip(_PAIR, cells, strict=True):
            found[column].append(cell)
    return _enough(path, found)


def _enough(path: Path, pairs: dict[str, list[str]]) -> dict[str, list[str]]:
    if len(pairs["sentence1"]) < 2:
        raise InputError(f"{path} has {len(pairs['sentence1'])} translations; the right one is sought among at least 2")
    return pairs


def _objects(path: Path, fields: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    for count, line in lines(path):
        if line.isspace():
            continue
        place = f"{path}:{count}"
        try:
            row = json_value(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: this line is no JSON ({error!r})") from error
        if not isinstance(row, dict):
            raise InputError(f"{place}: this line is no object, but {line.strip()[:40]!r}")
        if missing := [field for field in fields if field not in row]:
            raise InputError(f"{place}: this object has no {missing[0]!r}; it wants {', '.join(fields)}")
        yield place, row


def _string(row: dict[str, Any], field: str, place: str) -> str:
    if not isinstance(row[field], str):
        raise InputError(f"{place}: {field} is {row[field]!r:.60}, not a string")
    return whole_characters(row[field])


def _labels(path: Path) -> tuple[list[str], list[str]]:
    texts, labels = [], []
    for place, row in _objects(path, ("text", "label")):
        if not isinstance(row["label"], str | int):
            raise InputError(f"{place}: label is {row['label']!r:.60}, not a string or a whole number")
        texts.append(_string(row, "text", place))
        labels.append(str(row["label"]))
    if len(set(labels)) < 2:
        raise InputError(f"{path} has {len(texts)} texts, and not two different labels")
    return texts, labels


def _labelled(path: Path) -> Labelled:
    texts, labels = _labels(path)
    number_of = {label: place for place, label in enumerate(sorted(set(labels)))}
    return Labelled(texts, [number_of[label] for label in labels])


def _classification(train: Path, test: Path) -> dict[str, Labelled]:
    taught, tested = _labels(train), _labels(test)
    if unknown := sorted(set(tested[1]) - set(taught[1])):
        raise InputError(f"{test} has the label {unknown[0]!r}, which {train.name} has not")
    number_of = {label: place for place, label in enumerate(sorted(set(taught[1])))}
    return {
        split: Labelled(texts, [number_of[label] for label in labels])
        for split, (texts, labels) in (("train", taught), ("test", tested))
    }


def _candidates(path: Path) -> list[Ranking]:
    found: dict[str, Ranking] = {}
    for place, row in _objects(path, ("question", "answer", "label")):
        if row["label"] not in (0, 1):
            raise InputError(f"{place}: label is {row['label']!r:.60}; 1 is a right answer, 0 a wrong one")
        query = _string(row, "question", place)
        ranking = found.setdefault(query, Ranking(query, [], []))
        ranking.candidates.append(_string(row, "answer", place))
        ranking.labels.append(int(row["label"]))
    return _rankable(path, list(found.values()))


def _lists_of_candidates(path: Path) -> list[Ranking]:
    found = []
    for place, row in _objects(path, ("query", "positive", "negative")):
        for field in ("positive", "negative"):
            if not isinstance(row[field], list) or not all(isinstance(text, str) for text in row[field]):
                raise InputError(f"{place}: {field} is {row[field]!r:.60}, not a list of strings")
        labels = [1] * len(row["positive"]) + [0] * len(row["negative"])
        candidates = [whole_characters(text) for text in row["positive"] + row["negative"]]
        found.append(Ranking(_string(row, "query", place), candidates, labels))
    return _rankable(path, found)


def _rankable(path: Path, found: list[Ranking]) -> list[Ranking]:
    """Those with right and wrong candidates; whatever a model does, the score of others is the same."""
    kept = [ranking for ranking in found if len(set(ranking.labels)) == 2]
    if not kept:
        raise InputError(f"{path} has {len(found)} questions, and none with a right and a wrong candidate")
    return kept


def _digest(path: Path, files: list[Path]) -> str:
    sha = hashlib.sha256()
    for file in files:
        sha.update(f"{file.relative_to(path) if path.is_dir() else ''}\0".encode("utf-8", "surrogateescape"))
        with file.open("rb") as content:
            while block := content.read(2**20):
                sha.update(block)
        sha.update(b"\0")
    return sha.hexdigest()
