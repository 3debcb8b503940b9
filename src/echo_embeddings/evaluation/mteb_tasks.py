"""Data of one's own as tasks of mteb, which computes their scores; and tasks of mteb by their names."""

from __future__ import annotations

import copy
import difflib
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import mteb
from datasets import Dataset
from mteb.abstasks import (
    AbsTask,
    AbsTaskBitextMining,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata

from echo_embeddings.errors import InputError

from .local import Labelled, LocalData, find_local

__all__ = ["Task", "fresh", "labels", "local_task", "require_texts", "tasks_of"]

#: What names tasks: a path, the name of a task or a benchmark of mteb, or such an object itself.
Task: TypeAlias = str | os.PathLike[str] | AbsTask | mteb.Benchmark

# The main score of each kind is the one that mteb's own tasks of that kind have.
_KINDS = {
    "STS": ("t2t", "cosine_spearman"),
    "PairClassification": ("t2t", "max_ap"),
    "BitextMining": ("t2t", "f1"),
    "Retrieval": ("t2t", "ndcg_at_10"),
    "Reranking": ("t2t", "map_at_1000"),
    "Classification": ("t2c", "accuracy"),
    "Clustering": ("t2c", "v_measure"),
}


class _Local:
    """What tasks on local data share. Each data set makes a class, because mteb keeps ``metadata`` there."""

    data: LocalData
    data_loaded: bool
    dataset: dict[str, Any] | None

    def load_data(self, **_: Any) -> None:
        """Read the files. mteb calls it when there is no result yet."""
        if not self.data_loaded:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of rows that can be doubted, which was said before the run
                self.dataset = self._split(self.data.read())
            self.data_loaded = True

    def _split(self, rows: Any) -> dict[str, Any]:
        """What was read, as mteb wants it."""
        return {"test": Dataset.from_dict(rows)}


class _STS(_Local, AbsTaskSTS):  # type: ignore[misc]  # mteb is read without types
    pass


class _PairClassification(_Local, AbsTaskPairClassification):  # type: ignore[misc]
    label_column_name = "score"

    def _split(self, rows: Any) -> dict[str, Any]:
        return super()._split({**rows, "score": [int(one) for one in rows["score"]]})


class _BitextMining(_Local, AbsTaskBitextMining):  # type: ignore[misc]
    pass


class _Clustering(_Local, AbsTaskClustering):  # type: ignore[misc]
    # As mteb's own newer tasks; of larger data so many texts are drawn, always the same ones.
    max_fraction_of_documents_to_embed = None
    max_document_to_embed = 2048

    def _split(self, rows: Labelled) -> dict[str, Any]:
        return super()._split({"sentences": rows.texts, "labels": rows.labels})


class _Classification(_Local, AbsTaskClassification):  # type: ignore[misc]
    def _split(self, rows: dict[str, Labelled]) -> dict[str, Any]:
        self.is_cross_validation = "train" not in rows
        self.train_split = "test" if self.is_cross_validation else "train"
        return {split: Dataset.from_dict({"text": one.texts, "label": one.labels}) for split, one in rows.items()}


class _Retrieval(_Local, AbsTaskRetrieval):  # type: ignore[misc]
    def _split(self, rows: Any) -> dict[str, Any]:
        queries = {query: rows.queries[query] for query in rows.judgements}
        return _searched(rows.documents, queries, rows.judgements, None)


class _Reranking(_Local, AbsTaskRetrieval):  # type: ignore[misc]
    def _split(self, rows: Any) -> dict[str, Any]:
        documents: dict[str, str] = {}
        candidates: dict[str, list[str]] = {}
        relevant: dict[str, dict[str, int]] = {}
        for place, one in enumerate(rows):
            names = [f"q{place}-{number}" for number in range(len(one.candidates))]
            documents |= zip(names, one.candidates, strict=True)
            candidates[f"q{place}"] = names
            relevant[f"q{place}"] = dict(zip(names, one.labels, strict=True))
        queries = {f"q{place}": one.query for place, one in enumerate(rows)}
        return _searched(documents, queries, relevant, candidates)


def _searched(
    documents: dict[str, str],
    queries: dict[str, str],
    relevant: dict[str, dict[str, int]],
    candidates: dict[str, list[str]] | None,
) -> dict[str, Any]:
    corpus = {"id": list(documents), "text": list(documents.values()), "title": [""] * len(documents)}
    split = {
        "corpus": Dataset.from_dict(corpus),
        "queries": Dataset.from_dict({"id": list(queries), "text": list(queries.values())}),
        "relevant_docs": relevant,
        "top_ranked": candidates,
    }
    return {"default": {"test": split}}


_CLASSES: dict[str, type[Any]] = {
    "STS": _STS,
    "PairClassification": _PairClassification,
    "BitextMining": _BitextMining,
    "Retrieval": _Retrieval,
    "Reranking": _Reranking,
    "Classification": _Classification,
    "Clustering": _Clustering,
}


def local_task(data: LocalData) -> AbsTask:
    """Local data as a task of mteb. It is read when mteb asks for it; nothing is fetched."""
    category, main_score = _KINDS[data.kind]
    metadata = TaskMetadata(
        name=data.task_name,
        description=f"Data of the user's own: {data.name}",
        type=data.kind,
        category=category,
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["und"],  # nobody says which language it is, and no score depends on it
        main_score=main_score,
        dataset={"path": f"local/{data.name}", "revision": data.digest[:16]},
    )
    return type(data.kind, (_CLASSES[data.kind],), {"metadata": metadata, "data": data})()


def tasks_of(named: Task | Sequence[Task]) -> list[AbsTask]:
    """The tasks that paths, names and objects stand for, each once, in the order given.

    A path that exists comes before a name. A folder that is no data set stands for all that are in it.

    Raises:
        InputError: nothing is named, or there is neither such a path nor such a task or benchmark of mteb.
    """
    each = [named] if isinstance(named, str | os.PathLike | AbsTask | mteb.Benchmark) else list(named)
    found = {_name(task): task for one in each for task in _tasks(one)}
    if not found:
        raise InputError(f"tasks={named!r} names none; give a path, or the name of a task or a benchmark of mteb")
    return list(found.values())


def labels(tasks: Sequence[AbsTask]) -> dict[str, str]:
    """What a reader calls each task, by mteb's names for them: local data as their file or folder is called.

    Where two tasks would be called the same, local data have as much of their paths as tells them apart.
    """
    found = {_name(task): _name(task) for task in tasks}
    local = {_name(task): task.data for task in tasks if isinstance(task, _Local)}
    found |= {name: data.name for name, data in local.items()}
    paths = {name: data.path for name, data in local.items()}
    for parts in range(1, max((len(path.parts) for path in paths.values()), default=0) + 1):
        often = Counter(found.values())
        found |= {name: "/".join(path.parts[-parts:]) for name, path in paths.items() if often[found[name]] > 1}
    return found


def _name(task: AbsTask) -> str:
    return str(task.metadata.name)


def require_texts(task: AbsTask) -> None:
    """Refuse a task of mteb that has other things than texts.

    Raises:
        InputError: it has pictures, for example.
    """
    others = {other for one in (task, *getattr(task.metadata, "tasks", ())) for other in one.metadata.modalities}
    if others := others - {"text"}:
        raise InputError(f"it is about more than text ({', '.join(sorted(others))}), and these models read text only")


def fresh(task: AbsTask) -> AbsTask:
    """A copy that has drawn no random numbers yet: with them, a score would depend on what ran before."""
    return copy.deepcopy(task)


def _tasks(one: Task) -> Iterator[AbsTask]:
    if isinstance(one, AbsTask):
        yield one
    elif isinstance(one, mteb.Benchmark):
        yield from one.tasks
    elif one == "":  # such as a variable of the shell that is not set; as a path it would be the current folder
        raise InputError("the name of a task is empty; give a path, or the name of a task or a benchmark of mteb")
    elif Path(one).expanduser().exists() or not isinstance(one, str):
        yield from map(local_task, find_local(one))
    else:
        yield from _named(one)


def _named(name: str) -> Iterator[AbsTask]:
    try:
        yield mteb.get_task(name)
    except KeyError as error:
        near = re.findall(r"Did you mean: '(.+?)'", str(error))
    else:
        return
    # All benchmarks are made for this, which takes seconds.
    benchmarks = [known for one in mteb.get_benchmarks() for known in (one.name, *one.aliases)]
    if name not in benchmarks:
        near = difflib.get_close_matches(name, benchmarks, n=1) or near
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"there is no file or folder {name!r}, and no task or benchmark of mteb with this name{hint}")
    yield from mteb.get_benchmark(name).tasks
