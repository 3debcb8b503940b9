"""Configs of one model side by side on one data set, other models beside them: the quality and the time of each."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from echo_embeddings import notices
from echo_embeddings.config.config import EchoConfig
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.errors import ConfigError, InputError, ModelError
from echo_embeddings.extras import install
from echo_embeddings.model import builtin
from echo_embeddings.text.truncation import one_call
from echo_embeddings.types import Vectors, require_encoder

from .datasets import Dataset, open_dataset

__all__ = ["SAVED", "Score", "as_floats", "compare", "preset_configs", "require_yardsticks", "usual_presets"]

_log = logging.getLogger(__name__)

# What is fitted or trained in "default" and "zero-shot" is the built-in model's.
_USUAL_BUILTIN = ("default", "zero-shot", "echo", "classical", "prompt-eol")
_USUAL = ("any-model", "echo", "late-echo", "classical", "prompt-eol")
#: The name for the encoder's own config: the one that is saved with the model, unless it was made with another.
SAVED = "saved"

# One of them is in every folder that sentence-transformers loads.
_OF_A_YARDSTICK = ("modules.json", "config.json")
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)

Show = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Score:
    """What one config reached.

    Attributes:
        preset: its name; for a yardstick the name of the model.
        metric: what ``score`` is, such as ``"Spearman x100"``.
        score: two decimals; ``None`` where the metric is not defined, as when all vectors are alike.
        ms_per_text: milliseconds a text, documents and queries together.
        dimension: length of a vector.
        truncated: how many texts were longer than the config's ``max_length``.
    """

    preset: str
    metric: str
    score: float | None
    ms_per_text: float
    dimension: int
    truncated: int


def compare(
    encoder: EchoEncoder,
    dataset: Dataset | str | os.PathLike[str],
    presets: Sequence[str] | Mapping[str, EchoConfig] | None = None,
    *,
    limit: int | None = None,
    yardsticks: Sequence[str] = (),
    show_progress: bool | Show = False,
) -> list[Score]:
    """Embed a data set with several configs of one model, and score each.

    Args:
        encoder: the model; its own config has the name ``"saved"``. Pass one that has loaded nothing yet: weights are
            loaded for each config that runs other layers, and then there are never two sets of them in memory.
        dataset: what :func:`open_dataset` gives, or a path for it: a ``.tsv`` or ``.csv`` with ``score``,
            ``sentence1`` and ``sentence2``, or a folder in BEIR's layout.
        presets: names of presets, each with as many dimensions as stand behind an ``@`` (``"default@256"``); or configs
            by a name of your own. ``None`` takes the usual ones of the model: :func:`usual_presets`.
        limit: use so many pairs or queries only (at least 2), where ``dataset`` is a path.
        yardsticks: hub ids or folders of models of sentence-transformers, such as
            ``"sentence-transformers/all-MiniLM-L6-v2"``. They are scored last, as that library loads them.
        show_progress: show a progress bar for each config, or a function to call with the config's name, the texts that
            are done, and how many there are.

    Returns:
        A score for each config, in the order given.

    Raises:
        InputError: the data set cannot be used, or a name has no number behind its ``@``.
        ConfigError: there is no such preset, or it cannot work with this model.
        ImportError: pairs are compared, and scipy is missing; or there are yardsticks, and sentence-transformers is.
        ModelError: a yardstick cannot be loaded.
    """
    require_encoder(encoder)
    require_yardsticks(yardsticks)
    if presets is None:
        presets = usual_presets(encoder)
    configs = dict(presets) if isinstance(presets, Mapping) else preset_configs(presets, encoder)
    if not configs:
        raise InputError(f"presets={presets!r} names none; try {', '.join(usual_presets(encoder))}")
    _require_possible(configs, encoder)
    if isinstance(dataset, Dataset):
        if limit is not None:
            raise InputError(f"limit={limit} is for a path; open_dataset(path, {limit}) gives a smaller data set")
    else:
        dataset = open_dataset(dataset, limit)
    scores = []
    for name, config in configs.items():
        # The encoder before is let go first, so that its weights are shared or freed.
        encoder = encoder.with_config(config)
        with one_call(), _showing(show_progress, name) as show:
            scores.append(_score(name, encoder, dataset, show))
    for name in dict.fromkeys(yardsticks):
        with _showing(show_progress, name) as show:
            scores.append(_yardstick(name, dataset, show))
    return scores


def usual_presets(encoder: EchoEncoder) -> tuple[str, ...]:
    """The presets that are worth comparing for this encoder's model, its own config first.

    Presets with late echo are left out where the model's architecture cannot run it, and that is said once.
    """
    if encoder.model_name == builtin.NAME and encoder.config == EchoConfig.preset("default"):
        return _USUAL_BUILTIN
    configs = {name: EchoConfig.preset(name) for name in _USUAL}
    own = () if encoder.config in configs.values() else (SAVED,)
    faults = {name: fault for name, config in configs.items() if (fault := encoder.why_not(config))}
    if faults:
        why = next(iter(faults.values())).partition(";")[0]
        notices.say_once(_log, f"{' and '.join(faults)} left out: {encoder.model_name} cannot run them ({why})")
    return (*own, *(name for name in _USUAL if name not in faults))


def preset_configs(names: Sequence[str], encoder: EchoEncoder) -> dict[str, EchoConfig]:
    """The config of each name: the preset before an ``@``, or ``"saved"``, with as many dimensions as stand behind it.

    Raises:
        InputError: it is no number that stands there.
        ConfigError: there is no such preset, or it cannot work with the encoder's model.
    """
    if isinstance(names, str):
        raise TypeError(f"presets must be a list of names such as [{names!r}], not one string")
    configs = {name: _config(name, encoder) for name in dict.fromkeys(names)}
    _require_possible(configs, encoder)
    return configs


def as_floats(encoder: EchoEncoder, vectors: NDArray[Any]) -> Vectors:
    """Float32 unit vectors: those of a smaller ``precision`` as what they stand for, since bytes have no cosines."""
    return vectors if encoder.precision == "float32" else encoder.restored(vectors)


def require_yardsticks(names: Sequence[str]) -> None:
    """Find out before the first minutes which yardsticks surely cannot be loaded; this loads none.

    Raises:
        TypeError: it is one string.
        ImportError: there are some, and sentence-transformers is missing.
        ModelError: there is no such folder, or it holds no model, or a hub may not be asked for it.
    """
    if isinstance(names, str):
        raise TypeError(f"yardsticks must be a list of names such as [{names!r}], not one string")
    if names and importlib.util.find_spec("sentence_transformers") is None:
        raise ImportError(f"a yardstick needs sentence-transformers: {install('sentence-transformers')}")
    for name in names:
        if fault := _missing(name):
            raise ModelError(
                f"the yardstick {name!r} could not be loaded: {fault}; give a folder of sentence-transformers, or a "
                "hub id such as sentence-transformers/all-MiniLM-L6-v2"
            )


def _missing(name: str) -> str:
    """Why a model of sentence-transformers cannot be there; empty if it may."""
    from huggingface_hub import constants, try_to_load_from_cache

    if Path(name).is_dir():
        is_model = any((Path(name) / file).is_file() for file in _OF_A_YARDSTICK)
        return "" if is_model else f"the folder has neither {' nor '.join(_OF_A_YARDSTICK)}"
    if _HUB_ID.fullmatch(name) is None:
        return "there is no such folder"
    ids = (name,) if "/" in name else (name, f"sentence-transformers/{name}")
    cached = any(isinstance(try_to_load_from_cache(one, file), str) for one in ids for file in _OF_A_YARDSTICK)
    return "" if cached or not constants.HF_HUB_OFFLINE else "it is no folder, and without a hub it is not in the cache"


def _require_possible(configs: Mapping[str, EchoConfig], encoder: EchoEncoder) -> None:
    """Find out what cannot work before the first minutes; this loads no weights."""
    for config in configs.values():
        encoder.with_config(config)
    for name, config in configs.items():
        if fault := encoder.why_not(config):
            raise ConfigError(f"{name!r} cannot run on {encoder.model_name}: {fault}. Leave it out")


def _config(name: str, encoder: EchoEncoder) -> EchoConfig:
    preset, at, dimensions = name.partition("@")
    if at and not dimensions.isdecimal():
        raise InputError(f"--presets {name}: behind @ goes a number of dimensions, such as {preset}@256")
    config = encoder.config if preset == SAVED else EchoConfig.preset(preset)
    config.warn_of(int(dimensions) if at else None)
    return config.truncated(int(dimensions) if at else None)


def _score(name: str, encoder: EchoEncoder, dataset: Dataset, show: Show) -> Score:
    documents, queries = dataset.texts
    total = len(documents) + len(queries)
    show(name, 0, total)
    encoder.encode_documents("a")  # the first pass pays for what is set up once
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        show(name, done, total)

    started = time.perf_counter()
    found = encoder.encode_documents(documents, show_progress=advance)
    asked = encoder.encode_queries(queries, show_progress=advance)
    seconds = time.perf_counter() - started
    score = dataset.score(as_floats(encoder, found), as_floats(encoder, asked))
    return Score(
        preset=name,
        metric=f"{dataset.metric} x100",
        score=None if math.isnan(score) else round(score, 2),
        ms_per_text=round(1000 * seconds / total, 2),
        dimension=encoder.dimension,
        truncated=encoder.truncated.texts,
    )


def _yardstick(name: str, dataset: Dataset, show: Show) -> Score:
    """Score a model of sentence-transformers, with the prompts and the maximum length that are saved with it."""
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(name)
    except Exception as error:  # what is damaged has an error of its own in each library below
        raise ModelError(f"the yardstick {name!r} could not be loaded: {error}") from error
    documents, queries = dataset.texts
    show(name, 0, len(documents) + len(queries))
    model.encode_document("a")
    started = time.perf_counter()
    settings: dict[str, Any] = {"normalize_embeddings": True, "show_progress_bar": False}
    found = model.encode_document(documents, **settings)
    asked = model.encode_query(queries, **settings)
    seconds = time.perf_counter() - started
    show(name, len(documents) + len(queries), len(documents) + len(queries))
    score = dataset.score(found, asked)
    return Score(
        preset=name,
        metric=f"{dataset.metric} x100",
        score=None if math.isnan(score) else round(score, 2),
        ms_per_text=round(1000 * seconds / (len(documents) + len(queries)), 2),
        dimension=found.shape[1],
        truncated=_truncated(model, [*documents, *queries]),
    )


def _truncated(model: Any, texts: list[str]) -> int:
    """How many texts have more tokens than a model of sentence-transformers reads; 0 if it reads all."""
    longest = model.max_seq_length
    if not isinstance(longest, int) or not callable(model.tokenizer):
        return 0
    return sum(len(ids) > longest for ids in model.tokenizer(texts, verbose=False)["input_ids"])


@contextmanager
def _showing(show: bool | Show, name: str) -> Iterator[Show]:  # noqa: FBT001 - as the user gave it
    if callable(show):
        yield show
    elif not show or not notices.allows_bars():
        yield lambda *_: None
    else:
        from tqdm.auto import tqdm

        with tqdm(unit="text", desc=name) as bar:

            def update(_: str, done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield update
