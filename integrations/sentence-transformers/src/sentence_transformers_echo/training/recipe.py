"""Describe a training run completely, in one frozen object or YAML file. A recipe knows no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder
from echo_embeddings.types import require_whole

from .data import TAUGHT, Data

__all__ = ["Lora", "Recipe", "Trained"]


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685) on the layers that run.

    Args:
        rank: the rank of each pair of matrices.
        alpha: the product of a pair is scaled by ``alpha / rank``.
        dropout: dropout on the input of the adapters, 0 for none. ``"simcse"`` needs some, such as 0.1.
        first_layer: the first decoder layer with adapters, counted from 0. Layers below it are not trained and run
            without gradient, which is faster.
        modules: names of the linear layers with adapters, such as ``("q_proj", "v_proj")``; ``None`` takes all of each
            decoder layer.
        start: folder of a trained adapter to continue from, with the same rank and modules; layers that it lacks start
            anew. A relative path starts from the working directory, like ``output``. ``None``: all layers start anew.
    """

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    first_layer: int = 0
    modules: Sequence[str] | None = None
    start: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A training run. The same recipe on the same machine gives the same weights.

    Args:
        data: the files to train on.
        output: folder for the trained model and the checkpoints.
        model: hub id or folder; ``None`` for the built-in model.
        config: the templates, layers and pooling, in training and afterwards: an ``EchoConfig``, a preset's name, or a
            mapping of an ``EchoConfig``'s fields. A mapping may have a ``preset`` for the fields that it does not set.
            ``None`` takes the config that is saved with ``model``, as ``tune`` writes it, else the one that
            ``EchoEncoder`` chooses for it; ``"zero-shot"`` for the built-in model.
        teacher: for ``"distill"`` and ``"rank"``: a SentenceTransformer, by hub id, folder, or ``package:module/path``
            of an installed package.
        dimension: number of dimensions of the trained vectors; a linear head follows the pooling. Needed with a
            teacher, whose principal axes come first, so that the first dimensions alone are good vectors too. ``None``:
            no head, and the model's own dimension.
        whiten: a power from 0 to 1 (default 0.4), ``"start"`` or ``None``: what takes the head's place after training.
            With a power: the trained states on their own ``dimension`` principal axes, each divided by its standard
            deviation to this power (``Project.whiten``), which scored better than the head (research/log.md).
            ``"start"`` keeps the map of the adapter in ``lora.start``, also for ``"rank"``. ``None`` keeps the head,
            whose vectors can be compared with the teacher's.
        ranking_steps: steps in which the whitened map is then trained to rank texts as the teacher does, with
            ``dimension``, half and a quarter of it. They take seconds, because the states of 16,000 texts are computed
            once. 0 leaves the map whitened.
        steps: optimiser steps.
        batch_size: rows a step. In contrastive learning the other rows are the negatives.
        mini_batch_tokens: tokens computed together (GradCache, arXiv 2101.06983). It changes the memory that is needed,
            not the result.
        learning_rate: the highest learning rate; after ``warmup`` it falls linearly to 0.
        warmup: the part of the steps in which the learning rate rises, from 0 to below 1.
        temperature: temperature of the contrastive softmax over cosines.
        matryoshka: shorter dimensions that contrastive learning trains too (arXiv 2205.13147).
        lora: the adapters.
        max_length: the most content tokens of a text in training; afterwards the config's own ``max_length`` holds.
        seed: for random draws, order, initial weights and dropout.
        evaluate: files and folders that the model is scored on during training, as ``echo-embeddings compare`` takes.
        evaluate_limit: the most queries (or pairs) of each that are used; ``None`` for all. See ``compare --limit``.
        evaluate_every: steps between two evaluations.
        save_every: steps between two checkpoints.
        data_folder: the folder that relative paths in ``data`` and ``evaluate`` start from.
        compiled: let ``torch.compile`` fuse the decoder layers. It takes half a minute to two minutes at the start;
            then training is up to twice as fast on a CPU (docs/guides/fine-tune.md). It needs a C++ compiler; without
            one there is a warning.
        dtype: dtype of the frozen weights; ``"auto"`` as in ``EchoEncoder``. Adapters and head are in float32.

    Raises:
        ConfigError: a value cannot work; the message names it.
    """

    data: Sequence[Data]
    output: str
    model: str | None = None
    config: EchoConfig | str | Mapping[str, Any] | None = None
    teacher: str | None = None
    dimension: int | None = None
    whiten: float | Literal["start"] | None = 0.4
    ranking_steps: int = 150
    steps: int = 500
    batch_size: int = 64
    mini_batch_tokens: int = 2048
    learning_rate: float = 3e-4
    warmup: float = 0.05
    temperature: float = 0.02
    matryoshka: Sequence[int] = ()
    lora: Lora = field(default_factory=Lora)
    max_length: int = 128
    seed: int = 0
    evaluate: Sequence[str] = ()
    evaluate_limit: int | None = None
    evaluate_every: int = 100
    save_every: int = 100
    data_folder: str = "."
    compiled: bool = False
    dtype: str = "auto"

    def __post_init__(self) -> None:
        for name in ("data", "matryoshka", "evaluate"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.config is not None or self.model is None:
            object.__setattr__(self, "config", _config("zero-shot" if self.config is None else self.config))
        if not self.data:
            raise ConfigError("data is empty; name at least one file to train on")
        for name in ("steps", "batch_size", "mini_batch_tokens", "max_length", "evaluate_every", "save_every"):
            require_whole(name, getattr(self, name), ConfigError)
        for name in ("learning_rate", "temperature"):
            if not isinstance(getattr(self, name), int | float) or getattr(self, name) <= 0:
                raise ConfigError(f"{name}={getattr(self, name)!r}: give a number above 0 (in YAML 8.0e-4, not 8e-4)")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup={self.warmup!r}: give a part of the steps, from 0 to below 1")
        self._check_losses()

    def _check_losses(self) -> None:
        titles = [data.title for data in self.data]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            raise ConfigError(f"two files are named {twice[0]!r}; give one of them another name:")
        losses = {data.loss for data in self.data}
        taught = sorted(losses & set(TAUGHT))
        if taught and (self.teacher is None or self.dimension is None):
            raise ConfigError(
                f"loss={taught[0]!r} needs a teacher and a dimension, such as teacher: "
                "sentence-transformers/all-MiniLM-L6-v2 and dimension: 384"
            )
        if self.teacher is not None and not taught:
            raise ConfigError(f"teacher={self.teacher!r} is named, but no data has loss='distill' or 'rank'")
        if "rank" in losses and self.whiten is None:
            raise ConfigError("loss='rank' ranks whitened states; give whiten a power from 0 to 1, such as 0.4")
        self._check_whiten()
        require_whole("ranking_steps", self.ranking_steps, ConfigError, at_least=0)
        if self.dimension is not None:
            require_whole("dimension", self.dimension, ConfigError)
        if "simcse" in losses and not self.lora.dropout:
            raise ConfigError("loss='simcse' tells a text's two passes apart by dropout; set lora: dropout: 0.1")

    def _check_whiten(self) -> None:
        if self.whiten == "start":
            if self.lora.start is None:
                raise ConfigError("whiten='start' keeps the map of lora.start, which is not set; name a folder there")
        elif self.whiten is not None and not (isinstance(self.whiten, int | float) and 0 <= self.whiten <= 1):
            raise ConfigError(
                f"whiten={self.whiten!r}: give a power from 0 to 1, 'start' for the map of lora.start, or null to keep "
                "the head"
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many first dimensions are trained to rank as the teacher does: all, half and a quarter."""
        return tuple(self.dimension // part for part in (1, 2, 4) if self.dimension >= part) if self.dimension else ()

    @cached_property
    def echo_config(self) -> EchoConfig:
        """``config`` as an ``EchoConfig``; where there is none, that of ``model``, which is looked up now.

        Raises:
            ConfigError: the config that is saved with ``model`` cannot be used.
            ModelError: there is no such model.
        """
        return self.config if isinstance(self.config, EchoConfig) else EchoEncoder(self.model).config

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Recipe:
        """Make a recipe from a named one, with some fields changed; ``data`` and ``output`` must be among them.

        ``"paper"`` is the echo paper's fine-tuning (section 4.4): LoRA of rank 16 and alpha 16, learning rate 8e-4,
        2,048 rows a step from one dataset at a time, temperature 1/50, 720 steps, last-token pooling with the templates
        of ``echo-finetuned``, all layers. These settings are *not published* and so our choice: which modules have
        adapters (all linear ones), the schedule (5 % warm-up, linear decay), the length (256), dropout (none), and the
        negatives of a query (those in the data). The paper also trains the end-of-sequence token's embedding; this
        recipe does not.

        Args:
            name: ``"paper"``.
            changes: fields of the recipe.

        Raises:
            ConfigError: no recipe has that name.
        """
        if name not in _PRESETS:
            raise ConfigError(f"there is no recipe {name!r}; choose one of {', '.join(_PRESETS)}")
        return cls(**{**_PRESETS[name], **changes})

    @classmethod
    def load(cls, path: str | Path, **changes: Any) -> Recipe:
        """Read a recipe from a YAML file. ``data_folder`` is the file's own folder, or starts from it if it is set.

        Args:
            path: the file.
            changes: fields to set instead of the file's; ``None`` keeps the file's.

        Raises:
            ConfigError: the file is not YAML, or has a field that a recipe does not have.
            FileNotFoundError: there is no such file.
        """
        import yaml

        path = Path(path).expanduser()
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path} must hold fields such as 'data:' and 'output:'")
        content |= {name: value for name, value in changes.items() if value is not None}
        content["data_folder"] = str(path.parent / Path(content.get("data_folder", ".")).expanduser())
        name = content.pop("preset", None)
        try:
            made = _made(content)
            return cls(**made) if name is None else cls.preset(name, **made)
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Trained:
    """The result of a training run.

    Attributes:
        folder: the saved model, for ``EchoEncoder(folder)`` and
            ``SentenceTransformer(folder, trust_remote_code=True)``.
        before: scores on ``recipe.evaluate`` before the first step; if there is a head, after it was fitted.
        after: scores of the saved model.
        rows: how many rows each data set had.
    """

    folder: Path
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


def _made(content: dict[str, Any]) -> dict[str, Any]:
    """Turn plain values from YAML into the fields of a recipe."""
    made = _known(content, Recipe, "recipe")
    for required in ("data", "output"):
        if not made.get(required):
            raise ConfigError(f"there is no {required!r}; a recipe needs it")
    if not isinstance(made["data"], Sequence) or not all(isinstance(entry, dict) for entry in made["data"]):
        raise ConfigError("data must be a list of entries such as '- path: pairs.jsonl'")
    made["data"] = [Data(**_known(entry, Data, "entry of data")) for entry in made["data"]]
    if "lora" in made:
        lora = _known(made["lora"], Lora, "lora")
        made["lora"] = Lora(**lora | {"modules": tuple(lora["modules"])} if lora.get("modules") else lora)
    return made


def _known(content: Any, cls: type, what: str) -> dict[str, Any]:
    names = [item.name for item in fields(cls)]
    if not isinstance(content, dict):
        raise ConfigError(f"{what} must hold fields such as {names[0]!r}, not {content!r}")
    if unknown := sorted(map(str, set(content) - set(names))):
        raise ConfigError(f"{unknown[0]!r} is no field of a {what}; choose from {', '.join(names)}")
    return dict(content)


def _config(value: Any) -> EchoConfig:
    if isinstance(value, EchoConfig):
        return value
    if isinstance(value, str):
        return EchoConfig.preset(value)
    if not isinstance(value, Mapping):
        raise ConfigError(f"config={value!r}: give a preset's name, or fields such as template and start_layer")
    changes = dict(value)
    base = changes.pop("preset", None)
    known = {item.name for item in fields(EchoConfig)} - {"transforms", "lexical"}
    if unknown := sorted(map(str, set(changes) - known)):
        raise ConfigError(f"config has the unknown field {unknown[0]!r}; choose from {', '.join(sorted(known))}")
    return EchoConfig(**changes) if base is None else EchoConfig.preset(base).replace(**changes)


_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "config": "echo-finetuned",
        "steps": 720,
        "batch_size": 2048,
        "mini_batch_tokens": 16384,
        "learning_rate": 8e-4,
        "temperature": 0.02,
        "lora": Lora(rank=16, alpha=16),
        "max_length": 256,
    }
}
