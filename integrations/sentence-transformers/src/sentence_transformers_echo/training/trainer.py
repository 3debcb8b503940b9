"""Train a model as a recipe says, with sentence-transformers' own trainer, and save what ``EchoEncoder`` loads."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    EmbedDistillLoss,
    MatryoshkaLoss,
)
from torch import nn
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback

from echo_embeddings import ConfigError, TruncationWarning
from echo_embeddings.config.files import ARRAYS_FILE
from echo_embeddings.data.files import locked, whole_folder
from echo_embeddings.vectors.transforms import Project

from . import checkpoints, student
from .card import write_card
from .data import TAUGHT, Data, read
from .job import job_of, require_same
from .judge import Judge
from .losses import RankDistillLoss
from .recipe import Recipe, Trained
from .samplers import RANKED, pick
from .teacher import Vectors, targets

__all__ = ["Trained", "train"]

#: How many texts the head is fitted on at the start; more take time and change little.
_FIT_HEAD_ON = 3000
#: How many texts the map is fitted on that takes the head's place.
_FIT_MAP_ON = 16000
#: How many checkpoints are kept.
_KEPT = 2


def train(recipe: Recipe, *, resume: bool = False, show_progress: bool = True) -> Trained:
    """Fine-tune a model.

    Args:
        recipe: the training run.
        resume: continue from the last whole checkpoint in the output folder, if there is one; what is not whole is
            removed. The result has the same weights as an uninterrupted run. Default: no.
        show_progress: show progress bars (default: yes).

    Returns:
        The folder of the model, its scores, and the rows of each data set.

    Raises:
        InputError: a file or row cannot be used; names file and line. Or another process trains into that folder.
        ConfigError: the recipe cannot work, its output folder holds something else, or its checkpoints were written by
            another recipe, for other data or with other weights.
        ImportError: peft or accelerate is missing.
    """
    output = Path(recipe.output).expanduser()
    output.parent.mkdir(parents=True, exist_ok=True)
    job = output.resolve()
    with warnings.catch_warnings(), locked(job.with_name(f"{job.name}.training")):
        warnings.simplefilter("ignore", TruncationWarning)  # the recipe says how many tokens of a text are used
        _require_output(output, resume=resume)
        return _train(recipe, output, checkpoints.last(output / "checkpoints"), show_progress=show_progress)


def _train(recipe: Recipe, output: Path, start: Path | None, *, show_progress: bool) -> Trained:
    folder = Path(recipe.data_folder).expanduser()
    data = {entry.title: read(entry, folder, recipe.seed) for entry in recipe.data}
    job = job_of(recipe, data, student.weights_of(recipe))
    if start is not None:
        require_same(start, checkpoints.job_in(start), job)
    judge = Judge.open(recipe.evaluate, folder, recipe.evaluate_limit, recipe.echo_config.max_length)
    set_seed(recipe.seed)
    model = student.make(recipe)
    taught = _teach(recipe, model, data, output / "teacher", show_progress=show_progress)
    data = {entry.title: _columns(entry, data[entry.title], taught) for entry in recipe.data}
    model.model_card_data.generate_widget_examples = False  # so that the card does not quote the data
    before = judge(model) if judge else {}
    places = output / "checkpoints"
    trainer = _Trainer(
        model=model,
        args=_arguments(recipe, model, places, evaluated=judge is not None, show_progress=show_progress),
        train_dataset=DatasetDict(data),
        loss={entry.title: _loss(recipe, entry.loss, model, taught) for entry in recipe.data},
        evaluator=judge,
    )
    trainer.job = job
    if not show_progress:
        trainer.remove_callback(PrinterCallback)  # without a progress bar it would print every loss
    trainer.train(resume_from_checkpoint=None if start is None else str(start))
    final = student.folded(model.eval(), recipe, taught.sample, taught.wanted)
    after = judge(final) if judge else {}
    done = Trained(output, before, after, {name: len(rows) for name, rows in data.items()})
    with _result(output) as unfinished:
        final.save_pretrained(str(unfinished))
        student.name_base(unfinished, recipe.model)
        write_card(unfinished, recipe, done)
    return done


@contextmanager
def _result(output: Path) -> Iterator[Path]:
    """Give a folder to write the trained model to, which becomes ``output``; checkpoints and strange files stay."""
    if output.is_mount():  # the volume of a container; it cannot be renamed
        yield output
    else:
        with whole_folder(output.resolve(), keep=lambda path: str(path) != ARRAYS_FILE) as unfinished:
            yield unfinished
    shutil.rmtree(output / "teacher", ignore_errors=True)


class _Trainer(SentenceTransformerTrainer):
    """The trainer with our samplers, and with unrounded parameters in checkpoints: the base class may save bfloat16."""

    #: What checkpoints belong to.
    job: Mapping[str, str] = MappingProxyType({})
    _writes_to: str | None = None

    def get_batch_sampler(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,  # noqa: FBT001 (as the base class has it)
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> DefaultBatchSampler:
        del valid_label_columns  # our samplers do not use labels as classes
        return pick(dataset, self._count_tokens, batch_size, drop_last=drop_last, generator=generator, seed=seed)

    def _count_tokens(self, texts: list[str]) -> list[int]:
        return [int(count) for count in self.model.preprocess(texts)["echo_pooled"].sum(dim=1)]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint that is there whole or not at all."""
        name = f"checkpoint-{self.state.global_step}"
        with checkpoints.written(Path(self.args.output_dir) / name, _KEPT, self.job) as unfinished:
            self._writes_to = str(unfinished.parent)
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._writes_to = None

    def _get_output_dir(self, trial: Any) -> str:
        return self._writes_to or str(super()._get_output_dir(trial))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        student.store(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        student.restore(self.model, Path(checkpoint_path))


@dataclass(frozen=True)
class _Taught:
    """The teacher's vectors, and what is fitted to them.

    Attributes:
        targets: unit vectors ``[rows, dimension]`` for each data set whose loss needs them.
        sample: some of the data sets' texts, to fit the map on at the end.
        wanted: the teacher's vectors for the sample.
        project: with ``loss: rank``, the map from pooled states to the vectors that are ranked; else ``None``.
    """

    targets: dict[str, Vectors] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)
    wanted: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    project: Project | None = None


def _teach(
    recipe: Recipe, model: SentenceTransformer, data: dict[str, Dataset], cache: Path, *, show_progress: bool
) -> _Taught:
    """Embed the texts with the teacher; fit the head to its vectors, and with ``loss: rank`` the map to rank with."""
    names = [entry.title for entry in recipe.data if entry.loss in TAUGHT]
    if recipe.teacher is None or recipe.dimension is None or not names:
        return _Taught()
    texts = [text for name in names for text in data[name]["text"]]
    wanted = targets(recipe.teacher, texts, recipe.dimension, cache, show_progress=show_progress)
    ends = np.cumsum([len(data[name]) for name in names])
    some = np.random.default_rng(recipe.seed).permutation(len(texts))[:_FIT_MAP_ON]
    sample = [texts[i] for i in some]
    states = student.fit_head(model, sample[:_FIT_HEAD_ON], wanted[some[:_FIT_HEAD_ON]])
    ranks = any(entry.loss == "rank" for entry in recipe.data)
    project = student.behind_pooling(model, recipe, states, wanted[some[: len(states)]]) if ranks else None
    return _Taught(dict(zip(names, np.split(wanted, ends[:-1]), strict=True)), sample, wanted[some], project)


def _columns(entry: Data, rows: Dataset, taught: _Taught) -> Dataset:
    """The columns that the loss of this entry needs."""
    if entry.loss == "simcse":
        return Dataset.from_dict({"anchor": rows["text"], "positive": rows["text"]})
    if entry.loss in TAUGHT:
        name = RANKED if entry.loss == "rank" else "text"
        return Dataset.from_dict({name: rows["text"], "label": list(taught.targets[entry.title])})
    return rows


def _loss(recipe: Recipe, name: str, model: SentenceTransformer, taught: _Taught) -> nn.Module:
    if name == "rank" and taught.project is not None:
        return RankDistillLoss(model, taught.project, recipe.lengths)
    if name == "distill":
        return EmbedDistillLoss(model, distance_metric="cosine")
    contrastive = CachedMultipleNegativesRankingLoss(
        model,
        scale=1 / recipe.temperature,
        mini_batch_size=recipe.batch_size,
        mini_batch_num_tokens=recipe.mini_batch_tokens,
    )
    if not recipe.matryoshka:
        return contrastive
    dimension = model.get_embedding_dimension()
    if dimension is not None and max(recipe.matryoshka) > dimension:
        raise ConfigError(f"matryoshka={list(recipe.matryoshka)}: this model's vectors have {dimension} dimensions")
    return MatryoshkaLoss(model, contrastive, matryoshka_dims=list(recipe.matryoshka))


def _arguments(
    recipe: Recipe, model: SentenceTransformer, folder: Path, *, evaluated: bool, show_progress: bool
) -> SentenceTransformerTrainingArguments:
    documents = dict.fromkeys(("positive", *(f"negative_{i}" for i in range(1, 100))), "document")
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup_steps=int(recipe.warmup * recipe.steps),
        lr_scheduler_type="linear",
        bf16=model[0].model.dtype == torch.bfloat16,
        use_cpu=model.device.type == "cpu",
        seed=recipe.seed,
        multi_dataset_batch_sampler="proportional",
        router_mapping={"anchor": "query", **documents},
        eval_strategy="steps" if evaluated else "no",
        eval_steps=recipe.evaluate_every,
        save_steps=recipe.save_every,
        logging_steps=max(min(recipe.evaluate_every, recipe.steps) // 10, 1),
        disable_tqdm=not show_progress,
        report_to="none",
    )


def _require_output(output: Path, *, resume: bool) -> None:
    if output.is_dir() and any(output.iterdir()) and not resume:
        raise ConfigError(
            f"output folder {str(output)!r} is not empty; go on with resume (--resume), or name another folder"
        )
