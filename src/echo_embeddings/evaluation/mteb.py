"""Judge an encoder with mteb, the field's benchmark library: its tasks where a hub is in reach, and data of one's own.

Scores come from mteb's evaluators in both cases. Importing this module needs the extra ``mteb``.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from echo_embeddings import notices
from echo_embeddings.config.summary import short_name
from echo_embeddings.data.files import locked, remove, whole_file
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.errors import InputError
from echo_embeddings.extras import require
from echo_embeddings.types import Role, require_encoder

require("mteb", "mteb", "evaluating with mteb")

import datasets  # noqa: E402 - the line before says what to install where they are missing
from mteb import AbsTask, ResultCache, TaskResult  # noqa: E402
from mteb import evaluate as evaluate_with_mteb  # noqa: E402
from scipy.stats import ConstantInputWarning  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning  # noqa: E402

from .comparison import require_yardsticks  # noqa: E402
from .mteb_model import MTEBEncoder, Show  # noqa: E402
from .mteb_tasks import Task, fresh, labels, require_texts, tasks_of  # noqa: E402
from .plots import bars  # noqa: E402
from .yardsticks import Yardstick  # noqa: E402

__all__ = ["Evaluation", "MTEBEncoder", "TaskScore", "evaluate"]

_REPORT, _PLOT = "scores.json", "scores.svg"
# mteb begins every task with this seed; some of its evaluators draw from the process's own generators too.
_SEED = 42
# Files that are not whole yet; what a killed process left of them is removed by the next one.
_SAVING = ".saving-"


@dataclass(frozen=True)
class TaskScore:
    """What one model reached in one task.

    Attributes:
        model: the model and its config, such as ``"SmolLM2-135M-Instruct, default"``; for a yardstick its name.
        task: mteb's name of the task; for data of one's own the name of the file or folder, with as much of its path as
            tells it from others of that name.
        kind: mteb's type of the task, such as ``"STS"`` or ``"Retrieval"``.
        metric: the task's main score, as mteb calls it, such as ``"cosine_spearman"`` or ``"ndcg_at_10"``.
        score: 100 times that, four decimals, the mean over the task's subsets and splits; ``None`` where it is not
            defined, as when all vectors are alike.
        seconds: what the task took when it was computed.
    """

    model: str
    task: str
    kind: str
    metric: str
    score: float | None
    seconds: float | None


@dataclass(frozen=True)
class Evaluation:
    """The scores of all models in all tasks.

    Attributes:
        scores: model by model, in the order of the tasks.
        failed: tasks that could not be run, because their data could not be had or are no texts, and why.
        results: mteb's own results, by model and task: every metric of every subset.
        about: what the scores depend on: of each model the name, weights, config and dtype; and versions.
    """

    scores: list[TaskScore]
    failed: dict[str, str]
    results: dict[tuple[str, str], TaskResult] = field(repr=False)
    about: dict[str, Any] = field(repr=False)

    @property
    def models(self) -> list[str]:
        """Every model once."""
        return list(dict.fromkeys(score.model for score in self.scores))

    def means(self, model: str) -> dict[str, float]:
        """A model's mean score of each kind of task; under ``"tasks"`` over all tasks, under ``"kinds"`` of the kinds.

        A score that is not defined counts as 0.
        """
        own = [score for score in self.scores if score.model == model]
        kinds = {
            kind: fmean(one.score or 0.0 for one in own if one.kind == kind)
            for kind in dict.fromkeys(one.kind for one in own)
        }
        return kinds | {"tasks": fmean(one.score or 0.0 for one in own), "kinds": fmean(kinds.values())} if own else {}

    def to_dict(self) -> dict[str, Any]:
        """All but mteb's own results, as JSON can hold it."""
        return {
            **self.about,
            "scores": [asdict(score) for score in self.scores],
            "means": {
                model: {name: round(mean, 4) for name, mean in self.means(model).items()} for model in self.models
            },
            "failed": self.failed,
        }


def evaluate(
    encoder: EchoEncoder,
    tasks: Task | Sequence[Task],
    *,
    output: str | os.PathLike[str] | None = None,
    yardsticks: Sequence[str] = (),
    role: Role = "document",
    instructions: str | Mapping[str, str] | None = None,
    show_progress: bool | Show = False,
) -> Evaluation:
    """Score an encoder with mteb's evaluators.

    With an ``output``, what is done is kept there: mteb's results of each task, and the vectors of the task that runs.
    The same call goes on from there, also after the process was killed, and gives the same scores. Other weights, data,
    roles or instructions, another config or dtype are computed anew.

    Args:
        encoder: the model.
        tasks: paths, names of tasks (``"STSBenchmark"``) or benchmarks (``"MTEB(eng, v2)"``) of mteb, or such objects.
            A path is a data set, or a folder of several; :data:`echo_embeddings.evaluation.local.FORMATS` says what can
            be read. mteb's own tasks are fetched from the hub once.
        output: a folder for the results; ``scores.json`` and ``scores.svg`` are written there too. ``None`` (the
            default) keeps nothing. Texts of a task that runs take 4 bytes a dimension there until it is scored.
        yardsticks: hub ids or folders of models of sentence-transformers, such as
            ``"sentence-transformers/all-MiniLM-L6-v2"``, which do the same tasks with mteb's own wrapper.
        role: the template for texts that mteb gives no role: ``"document"`` (the default) or ``"query"``.
        instructions: for a query template with ``{instruction}``: one for all tasks, or a dict from names or types of
            tasks to instructions; ``None`` takes those of the tasks.
        show_progress: show a progress bar, or a function to call with what is being embedded, the texts that are done,
            and how many there are.

    Returns:
        The scores, and why a task has none.

    Raises:
        InputError: there is no such task or path, a file cannot be used, or no task's data could be had.
        ConfigError: role or instructions cannot be used with this encoder.
        ModelError: a yardstick cannot be loaded.
        ImportError: there are yardsticks, and sentence-transformers is missing.
    """
    require_encoder(encoder)
    require_yardsticks(yardsticks)
    own = MTEBEncoder(encoder, role=role, instructions=instructions)
    todo = tasks_of(tasks)
    names: dict[str, Callable[[], Any]] = {f"{encoder.model_name}, {short_name(encoder.config)}": lambda: own}
    names |= {name: partial(Yardstick, name) for name in yardsticks}
    folder = None if output is None else Path(output).expanduser()
    with _kept(folder) as cache, _showing(show_progress) as show, _quiet():
        found = _evaluate(names, todo, cache, show)
        if folder is not None:
            _report(found, folder)
    if not found.scores:
        raise InputError("no task could be run:\n" + "\n".join(f"{task}: {why}" for task, why in found.failed.items()))
    return found


def _evaluate(
    names: Mapping[str, Callable[[], Any]], todo: list[AbsTask], cache: _Cache | None, show: Show
) -> Evaluation:
    scores: list[TaskScore] = []
    failed: dict[str, str] = {}
    results: dict[tuple[str, str], TaskResult] = {}
    models, called = {}, labels(todo)
    for name, make in names.items():
        model = make()
        models[name] = {
            "name": model.mteb_model_meta.name,
            "weights": model.mteb_model_meta.revision,
            **(model.mteb_model_meta.experiment_kwargs or {}),
        }
        for number, task in enumerate(todo, start=1):
            said = called[task.metadata.name]
            where = f"{said} ({number} of {len(todo)})"
            model.show = lambda what, done, total, where=where: show(f"{where}: {what}", done, total)
            try:
                result = _run(model, task, cache)
            except _DataError as error:
                failed[said] = str(error)
                continue
            results[name, said] = result
            scores.append(_score(name, said, task, result))
        del model  # its weights go before those of the next are loaded
    about = {"models": models, "versions": {one: version(one) for one in ("mteb", "torch", "transformers")}}
    return Evaluation(scores, failed, results, about)


def _run(model: Any, task: AbsTask, cache: _Cache | None) -> TaskResult:
    try:
        require_texts(task)
    except InputError as error:
        raise _DataError(str(error)) from error
    task = fresh(task)
    for one in (task, *getattr(task.metadata, "tasks", ())):
        _say_what_data(one)
    meta = model.mteb_model_meta
    unfinished = None
    if cache is not None:
        result = cache.get_task_result_path(task.metadata.name, meta)
        model.unfinished = unfinished = result.with_name(f"{task.metadata.name}.vectors")
    with _seeded():
        ran = evaluate_with_mteb(
            model,
            task,
            cache=cache,
            encode_kwargs={"show_progress_bar": False},
            show_progress_bar=False,
            co2_tracker=False,
        )
    if cache is None:
        return ran.task_results[0]
    assert unfinished is not None  # noqa: S101 - for type checkers
    remove(unfinished)
    # mteb rounds what it writes; so a score is the same now and when it is read again.
    return cache.load_task_result(task.metadata.name, meta) or ran.task_results[0]


def _score(name: str, called: str, task: AbsTask, result: TaskResult) -> TaskScore:
    score = float(result.get_score())
    return TaskScore(
        model=name,
        task=called,
        kind=str(task.metadata.type),
        metric=str(task.metadata.main_score),
        score=None if math.isnan(score) else round(100 * score, 4),
        seconds=None if result.evaluation_time is None else round(result.evaluation_time, 2),
    )


class _DataError(Exception):
    """The data of a task could not be had, or are no texts."""


def _say_what_data(task: AbsTask) -> None:
    """Tell an error of loading data, of which there are many kinds, from one of the model's."""
    load = task.load_data

    def load_data(*args: Any, **kwargs: Any) -> None:
        try:
            load(*args, **kwargs)
        except InputError as error:
            raise _DataError(str(error)) from error  # a file of the user's own, which says itself what is wrong
        except Exception as error:
            path = task.metadata.dataset["path"]
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise _DataError(
                f"its data ({path}) could not be fetched: {reason[0]}. Without a hub, give a file or folder"
            ) from error

    task.load_data = load_data


class _Cache(ResultCache):  # type: ignore[misc]  # mteb is read without types
    """mteb's folder of results, in which every file is whole, whenever the process is killed."""

    def load_task_result(self, task_name: str, *args: Any, **kwargs: Any) -> TaskResult | None:
        try:
            return super().load_task_result(task_name, *args, **kwargs)
        except (ValueError, KeyError):  # damaged by somebody else
            return None

    def save_to_cache(self, task_result: TaskResult, *args: Any, **kwargs: Any) -> None:
        if "encode_kwargs" not in kwargs:
            # Some subsets are done, others not yet. Their random numbers would not be the same after a new start; so
            # a task is kept when all of it is done, and until then its vectors are, which take the time.
            return
        target = self.get_task_result_path(task_result.task_name, *args)
        target.parent.mkdir(parents=True, exist_ok=True)
        settings = target.with_name("run_settings.jsonl")
        with tempfile.TemporaryDirectory(prefix=_SAVING, dir=self.cache_path) as work:
            beside = ResultCache(work)
            made = beside.get_task_result_path(task_result.task_name, *args)
            made.parent.mkdir(parents=True)
            if settings.exists():  # mteb adds to it
                shutil.copyfile(settings, made.with_name(settings.name))
            beside.save_to_cache(task_result, *args, **kwargs)
            # The result is the last, because it says that all is done.
            for file in sorted(made.parent.iterdir(), key=lambda file: file == made):
                with whole_file(target.with_name(file.name)) as unfinished:
                    shutil.copyfile(file, unfinished)


@contextmanager
def _kept(folder: Path | None) -> Iterator[_Cache | None]:
    """The results in a folder, which no other process writes meanwhile; ``None`` without a folder."""
    if folder is None:
        yield None
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; results need a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.resolve(), inside=True):
        for left in folder.glob(f"{_SAVING}*"):
            remove(left)
        for left in (*folder.glob(".scores.*.part"), *(folder / "results").rglob(".*.part")):
            left.unlink(missing_ok=True)
        yield _Cache(folder)


def _report(found: Evaluation, folder: Path) -> None:
    with whole_file(folder / _REPORT) as unfinished:
        content = json.dumps(found.to_dict(), ensure_ascii=False, indent=2) + "\n"
        # Of a path that is no UTF-8 the bytes stand there as JSON's escapes.
        unfinished.write_text(content, encoding="utf-8", errors="backslashreplace")
    if found.scores:
        tasks = list(dict.fromkeys(score.task for score in found.scores))
        values = {(score.model, score.task): score.score for score in found.scores}
        rows = {model: [values.get((model, task)) for task in tasks] for model in found.models}
        bars(folder / _PLOT, tasks, rows, "main score x100")


@contextmanager
def _seeded() -> Iterator[None]:
    """Let every task begin with the same random numbers, and give the process its own back."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(_SEED)
    np.random.seed(_SEED)
    torch.manual_seed(_SEED)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the bars of the libraries below us: some come without being asked for, and none tells the time left."""
    were_shown = not datasets.are_progress_bars_disabled()
    modules: list[Any] = [module for name, module in list(sys.modules.items()) if name.startswith("mteb.")]
    bars_of = [(module, module.tqdm) for module in modules if hasattr(module, "tqdm")]
    datasets.disable_progress_bars()
    for module, shown in bars_of:
        module.tqdm = partial(shown, disable=True)
    try:
        with notices.loading_bars(), warnings.catch_warnings():
            # A class that is never predicted, and regressions that end after mteb's 100 steps, are part of the score.
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", ConstantInputWarning)  # such a score is None
            # mteb copies similarities, which are tensors already, into tensors.
            warnings.filterwarnings("ignore", "To copy construct from a tensor", UserWarning)
            yield
    finally:
        for module, shown in bars_of:
            module.tqdm = shown
        if were_shown:
            datasets.enable_progress_bars()


@contextmanager
def _showing(show: bool | Show) -> Iterator[Show]:  # noqa: FBT001 - as the user gave it
    if callable(show):
        yield show
    elif not show or not notices.allows_bars():
        yield lambda *_: None
    else:
        from tqdm.auto import tqdm

        with tqdm(unit="text") as bar:

            def update(what: str, done: int, total: int) -> None:
                if bar.desc != f"{what}: ":
                    bar.reset(total)
                    bar.set_description(what)
                bar.update(done - bar.n)

            yield update
