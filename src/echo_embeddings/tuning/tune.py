"""Choose the config of a model from unlabelled texts: template, layers, pooling, transform, words beside the echo."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from echo_embeddings.config.config import Layers
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.engine.progress import progress
from echo_embeddings.errors import ConfigError
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.inputs import Column, checked
from echo_embeddings.types import Vectors
from echo_embeddings.vectors.lexical import Lexical
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.transforms import EmbedFilter, Transform

from .candidates import PASSES, TRANSFORMS, Candidate, Pass, candidates
from .halves import Halves, usable

if TYPE_CHECKING:
    from echo_embeddings.engine.runtime import Runtime

__all__ = ["Tried", "Tuned", "tune"]

# Enough texts for the order of configurations to settle, few enough for five minutes on two cores.
_JUDGED, _OTHERS, _WORDS = 60, 100, 64
# What is fitted at the end: on so many texts, each with so many words.
_FITTED, _FITTED_WORDS = 200, 128
#: Lengths of the lexical part of a document that are tried beside the echo; a query has twice as much.
_LEXICAL = (0.0, 0.25, 0.5, 1.0)
_OFF = {"fused_layers": False, "last_layer": False}
_MAX_LENGTH = 512

Show = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Tried:
    """A configuration, and what it reached.

    Attributes:
        candidate: the configuration.
        words: length of the lexical part of a document beside the echo; 0 for none.
        found: mean reciprocal rank at which a half of a text finds the other half, 0 to 1.
        of_whole: how well a half finds its whole text: the same, or for short texts by how many standard deviations the
            whole text stands out.
        score: mean of the ranks of these two numbers among all configurations, 0 to 1; it decides.
    """

    candidate: Candidate
    words: float
    found: float
    of_whole: float
    score: float = 0.0


@dataclass(frozen=True)
class Tuned:
    """What :func:`tune` found.

    Attributes:
        encoder: an encoder with the best config, whose transforms are fitted; ``save_pretrained`` saves it.
        tried: all configurations, the best first; those with words are the best one with words of several lengths.
        skipped: passes that the budget of time left no room for.
    """

    encoder: EchoEncoder
    tried: list[Tried]
    skipped: list[Pass]

    @property
    def best(self) -> Tried:
        """The configuration of :attr:`encoder`."""
        lexical = self.encoder.config.lexical
        words = 0.0 if lexical is None else lexical.weight("document")
        chosen = self.tried[0].candidate
        return next(one for one in self.tried if one.candidate == chosen and one.words == words)


def tune(
    model: str | os.PathLike[str] | None,
    texts: Sequence[str] | Column,
    *,
    max_cost: float = 1.1,
    minutes: float = 5.0,
    passes: Sequence[Pass] = PASSES,
    options: EncoderOptions | None = None,
    show_progress: bool | Show = False,
) -> Tuned:
    """Find the config with which a model embeds texts like these best, without labels and without training.

    The model runs once for each template and start layer, which gives the states of all exit layers; everything else is
    arithmetic on those. The numbers that decide need no labels: :mod:`~echo_embeddings.tuning.halves`. Transforms are
    fitted on other texts than those that judge them.

    Args:
        model: a hub id, a folder or a ``.gguf`` file; ``None`` for the built-in model, without its training.
        texts: some hundred to some thousand texts like those that will be embedded, best of some sentences each.
        max_cost: leave out what costs more than so many classical passes over a text; the paper's echo costs 2.
        minutes: begin no further pass of the model after so many. What is left out is in ``Tuned.skipped``, and a
            second run may then find something else.
        passes: templates and start layers to try, in order.
        options: device, dtype, ``max_length`` and so on. Its ``model`` and ``config`` are not used.
        show_progress: show a progress bar, or a function to call with the name of the pass, the texts that are done,
            and how many there are; each text counts once a pass.

    Raises:
        InputError: fewer than 40 texts are different and have at least 6 words.
        ConfigError: an argument cannot work.
        ModelError: the model cannot be loaded, or is not causal.
    """
    for name, value in {"max_cost": max_cost, "minutes": minutes}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"{name}={value!r}: give a number above 0")
    if not passes:
        raise ConfigError("passes=[] leaves nothing to try")
    options = (options or EncoderOptions()).replace(
        model=None if model is None else os.fspath(model), config=None, devices=None, dimensions=None
    )
    chosen = usable(checked(texts), _FITTED)
    count = min(_JUDGED, len(chosen) // 2)
    halves = Halves.of(chosen[:count], _WORDS)
    others = [_first_words(text, _WORDS) for text in chosen[count : count + _OTHERS]]
    tried, skipped = _try_all(halves, others, passes, options, max_cost, minutes, show_progress)
    if not tried:
        raise ConfigError(f"max_cost={max_cost!r} leaves no configuration; the cheapest layer costs more")
    return _finished(tried, skipped, [_first_words(text, _FITTED_WORDS) for text in chosen], halves, options)


def _try_all(
    halves: Halves,
    others: list[str],
    passes: Sequence[Pass],
    options: EncoderOptions,
    max_cost: float,
    minutes: float,
    show_progress: bool | Show,  # noqa: FBT001 - as the user gave it
) -> tuple[list[Tried], list[Pass]]:
    """All configurations, the best first, and the passes for which there was no time."""
    from echo_embeddings.engine.runtime import Runtime
    from echo_embeddings.model.loading import load

    spec = ModelSpec(
        options.model, None, None if options.adapter is None else os.fspath(options.adapter), options.device,
        options.dtype, dict(options.model_kwargs),
    )  # fmt: skip
    loaded, needed = load(spec), halves.texts + others
    started, longest = time.monotonic(), 0.0
    tried, skipped = list[Tried](), list[Pass]()
    off = options.replace(speed=dict.fromkeys(options.off, False) | _OFF, compiled=False)
    embed_filter = cache(lambda: _embed_filter(Runtime(loaded, passes[0].config(_MAX_LENGTH), off, spec)))
    with _showing(show_progress, len(needed) * len(passes)) as show:
        for number, one in enumerate(passes):
            begun = time.monotonic()
            if tried and begun + longest - started > 60 * minutes:
                skipped.append(one)
                continue
            runtime = Runtime(loaded, one.config(options.max_length or _MAX_LENGTH), off, spec)
            advance = partial(show, one.name, number * len(needed))
            states = runtime.states_at_exits(needed, "document", advance)
            tried += _of_pass(one, runtime.backbone.layers, states, halves, max_cost, embed_filter)
            longest = max(longest, time.monotonic() - begun)
    return _ranked(tried), skipped


@contextmanager
def _showing(
    show_progress: bool | Show,  # noqa: FBT001 - as the user gave it
    total: int,
) -> Iterator[Callable[[str, int, int], object]]:
    """A function to call with a pass's name, how many texts came before it, and how many of it were just done."""
    done = 0
    with progress(total, bool(show_progress) and not callable(show_progress)) as advance:

        def show(name: str, before: int, count: int) -> None:
            nonlocal done
            done = max(done, before) + count
            advance(count)
            if callable(show_progress):
                show_progress(name, done, total)

        yield show


def _of_pass(
    one: Pass,
    layers: Layers,
    states: Vectors,
    halves: Halves,
    max_cost: float,
    embed_filter: Callable[[], Transform],
) -> Iterator[Tried]:
    """Measure every configuration of one pass, from the states at its exits ``[n, exits, dim]``."""
    judged = len(halves.texts)
    for exit_, some in candidates(one, layers, max_cost):
        rows, others = states[:judged, exit_], states[judged:, exit_]
        for candidate in some:
            transform = _fitted(candidate.transform, others, embed_filter)
            yield Tried(candidate, 0.0, *halves.measure(unit(rows if transform is None else transform(rows))))


def _first_words(text: str, words: int) -> str:
    return " ".join(text.split()[:words])


def _states(runtime: Runtime, texts: list[str]) -> Vectors:
    """Pooled states of documents, as the config says, before any transform."""
    template = runtime.config.template_for("document")
    return runtime.states(texts, runtime.contents(texts, template, None), runtime.layout(template))


def _fitted(name: str, states: Vectors, embed_filter: Callable[[], Transform]) -> Transform | None:
    if name == EmbedFilter.name:
        return embed_filter()
    fit = TRANSFORMS[name]
    return None if fit is None else fit(states)


def _embed_filter(runtime: Runtime) -> Transform:
    return EmbedFilter.from_unembedding(runtime.unembedding())


def _ranked(tried: Sequence[Tried]) -> list[Tried]:
    """With their scores, the best first; of equals the cheaper, then the simpler."""
    ranks = [_ranks([getattr(one, name) for one in tried]) for name in ("found", "of_whole")]
    scored = [replace(one, score=float(score)) for one, score in zip(tried, np.mean(ranks, axis=0), strict=True)]
    return sorted(scored, key=lambda one: (-one.score, one.candidate.cost))


def _ranks(values: Sequence[float]) -> Vectors:
    """Ranks from 0 to 1; equal values have equal ranks."""
    found = np.asarray(values)
    return np.asarray([(found < value).mean() for value in found], dtype=np.float32)


def _finished(
    tried: list[Tried], skipped: list[Pass], chosen: list[str], halves: Halves, options: EncoderOptions
) -> Tuned:
    """Choose the words beside the best configuration, and fit what is to be fitted on all chosen texts."""
    best = tried[0]
    plain = EchoEncoder.from_options(options.replace(config=best.candidate.config(options.max_length or _MAX_LENGTH)))
    states = _states(plain.runtime, [*halves.texts, *chosen])
    judged, count = len(halves.texts), len(halves.wholes)
    embed_filter = partial(_embed_filter, plain.runtime)
    apart = _fitted(best.candidate.transform, states[judged + count :], embed_filter)
    rows = unit(states[:judged] if apart is None else apart(states[:judged]))
    lexical = Lexical.fit(chosen[count:])
    words = lexical.vectors(halves.texts)
    beside = [
        Tried(best.candidate, length, *halves.measure(unit(np.concatenate([rows, length * words], axis=1))))
        for length in _LEXICAL
    ]
    length = _ranked(beside)[0].words
    transform = _fitted(best.candidate.transform, states[judged:], embed_filter)
    config = plain.config.replace(
        transforms=() if transform is None else (transform,),
        lexical=Lexical.fit(chosen, document_weight=length, query_weight=2 * length) if length else None,
    )
    return Tuned(plain.with_config(config), [*tried, *(one for one in beside if one.words)], skipped)
