"""``train``: from a recipe to a folder that ``EchoEncoder`` loads. The work is sentence-transformers' own trainer's."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
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
from transformers.trainer_utils import get_last_checkpoint

from echo_embeddings import ConfigError, TruncationWarning
from echo_embeddings.vectors.transforms import Project

from . import student
from .card import write_card
from .data import TAUGHT, Data, read
from .judge import Judge
from .losses import RankDistillLoss
from .recipe import Recipe, Trained
from .samplers import RANKED, pick
from .teacher import Vectors, targets

__all__ = ["Trained", "train"]

#: Texts whose vectors start the head; more cost time and change little.
_FIT_HEAD_ON = 3000
#: Texts on which the map is fitted that takes the head's place.
_FIT_MAP_ON = 16000


def train(recipe: Recipe, *, resume: bool = False, show_progress: bool = True) -> Trained:
    """Fine-tune a model.

    Args:
        recipe: what to do.
        resume: go on from the last checkpoint in the output folder, if there is one. The result has the weights of an
            uninterrupted run.
        show_progress: a progress bar.

    Returns:
        Where the model is, and its scores.

    Raises:
        InputError: a file or row cannot be used; names file and line.
        ConfigError: the recipe cannot work, or its output folder holds something else.
        ImportError: peft or accelerate is missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the recipe says how much of a text is read
        return _train(recipe, Path(recipe.output), resume=resume, show_progress=show_progress)


def _train(recipe: Recipe, output: Path, *, resume: bool, show_progress: bool) -> Trained:
    checkpoints = output / "checkpoints"
    _require_output(output, resume=resume)
    folder = Path(recipe.data_folder)
    data = {entry.title: read(entry, folder, recipe.seed) for entry in recipe.data}
    judge = Judge.open(recipe.evaluate, folder, recipe.evaluate_limit, recipe.echo_config.max_length)
    set_seed(recipe.seed)
    model = student.make(recipe)
    taught = _teach(recipe, model, data, output / "teacher", show_progress=show_progress)
    data = {entry.title: _columns(entry, data[entry.title], taught) for entry in recipe.data}
    model.model_card_data.generate_widget_examples = False  # a card shall not quote the data
    before = judge(model) if judge else {}
    trainer = _Trainer(
        model=model,
        args=_arguments(recipe, model, checkpoints, evaluated=judge is not None, show_progress=show_progress),
        train_dataset=DatasetDict(data),
        loss={entry.title: _loss(recipe, entry.loss, model, taught) for entry in recipe.data},
        evaluator=judge,
    )
    if not show_progress:
        trainer.remove_callback(PrinterCallback)  # it would print every loss instead of a bar
    trainer.train(resume_from_checkpoint=_last(checkpoints) if resume else None)
    final = student.folded(model.eval(), recipe, taught.sample, taught.wanted)
    after = judge(final) if judge else {}
    done = Trained(output, before, after, {name: len(rows) for name, rows in data.items()})
    final.save_pretrained(str(output))
    student.name_base(output, recipe.model)
    write_card(output, recipe, done)
    shutil.rmtree(output / "teacher", ignore_errors=True)
    return done


class _Trainer(SentenceTransformerTrainer):
    """With our samplers, and checkpoints that hold what is trained bit for bit: the base class's may be in bfloat16."""

    def get_batch_sampler(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,  # noqa: FBT001 (as the base class has it)
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> DefaultBatchSampler:
        del valid_label_columns  # ours looks for none
        return pick(dataset, self._count_tokens, batch_size, drop_last=drop_last, generator=generator, seed=seed)

    def _count_tokens(self, texts: list[str]) -> list[int]:
        return [int(count) for count in self.model.preprocess(texts)["echo_pooled"].sum(dim=1)]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        student.store(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        student.restore(self.model, Path(checkpoint_path))


@dataclass(frozen=True)
class _Taught:
    """What a teacher says of the texts it is asked about.

    Attributes:
        targets: of each data set with such a loss, unit vectors ``[rows, dimension]``.
        sample: some of their texts, for fitting.
        wanted: the teacher's vectors for the sample.
        project: what texts are ranked behind, where they are (``loss: rank``).
    """

    targets: dict[str, Vectors] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)
    wanted: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    project: Project | None = None


def _teach(
    recipe: Recipe, model: SentenceTransformer, data: dict[str, Dataset], cache: Path, *, show_progress: bool
) -> _Taught:
    """Ask the teacher, and fit to what it says: the head, and the map that texts are ranked behind."""
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
    """The columns that a loss wants."""
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
        save_total_limit=2,
        logging_steps=max(min(recipe.evaluate_every, recipe.steps) // 10, 1),
        disable_tqdm=not show_progress,
        report_to="none",
    )


def _require_output(output: Path, *, resume: bool) -> None:
    if output.is_dir() and any(output.iterdir()) and not resume:
        raise ConfigError(
            f"output folder {str(output)!r} is not empty; go on with resume (--resume), or name another folder"
        )


def _last(checkpoints: Path) -> str | None:
    found: str | None = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    return found
