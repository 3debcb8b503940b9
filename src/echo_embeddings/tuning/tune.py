"""Choose the config of a model from texts: template, layers, pooling, transform, words beside the echo."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.config.config import EchoConfig, Layers, Length
from echo_embeddings.config.files import CONFIG_FILE
from echo_embeddings.config.recipes import RULE
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.engine.progress import progress
from echo_embeddings.errors import ConfigError, LeftOutWarning, ModelError, warn
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.inputs import Column, checked
from echo_embeddings.types import Vectors
from echo_embeddings.vectors.lexical import Lexical
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.transforms import EmbedFilter, Transform

from .candidates import PASSES, TRANSFORMS, Candidate, Pass, candidates
from .halves import Halves, beginning, usable
from .labels import Labelled, Labels
from .neighbours import Neighbours, neighbours
from .words import length_of_words, spread_of

if TYPE_CHECKING:
    from echo_embeddings.engine.runtime import Runtime
    from echo_embeddings.model.loading import LoadedModel

__all__ = ["Gain", "Tried", "Tuned", "tune"]

# Enough texts for the order of configurations to settle, few enough for five minutes on two cores. What is fitted at
# the end is fitted on their states, which are there: to run the model on more texts took a third of the time.
_JUDGED, _OTHERS, _WORDS = 60, 100, 64
# N-grams are counted in the beginnings of so many texts, drawn because a file may be sorted by subject: more cost time
# and change little.
_COUNTED, _CHARACTERS = 2000, 2000
_OFF = {"fused_layers": False, "last_layer": False}
_MAX_LENGTH = 512

Show = Callable[[str, int, int], object]
# The states of the texts at one exit of one pass, by the pass, the exit layer, and whether the final norm is applied.
States = dict[tuple[Pass, int, bool], Vectors]


class Judge(Protocol):
    """Texts, and numbers that say how good vectors of them are."""

    #: How many of the first texts a transform may be fitted on in the end.
    @property
    def fitted(self) -> int: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    #: How many of the first texts are documents that no transform was fitted on while a configuration is judged.
    @property
    def documents(self) -> int: ...

    #: How much words may say beside the echo (``words.length_of_words``), what is most often best first.
    @property
    def shares(self) -> tuple[float, ...]: ...

    @property
    def texts(self) -> list[str]: ...

    @property
    def of_words(self) -> NDArray[np.float32]: ...

    def measure(self, vectors: Vectors) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class Tried:
    """A configuration, and what it reached.

    Attributes:
        candidate: the configuration.
        words: length of the lexical part of a document beside the echo; 0 for none.
        numbers: what was measured, in the order of ``Tuned.names``; each is better if it is larger.
        score: mean of the ranks of these numbers among all configurations without words, 0 to 1; it decides.
    """

    candidate: Candidate
    words: float
    numbers: tuple[float, ...]
    score: float = 0.0


@dataclass(frozen=True)
class Gain:
    """What the choice is worth on the labels that were held out.

    Attributes:
        metric: its name; values are times 100.
        size: what was held out, in words.
        before: the rule for any model; ``None`` if no pass was run that has its template and start layer.
        after: what was chosen.
    """

    metric: str
    size: str
    before: float | None
    after: float


@dataclass(frozen=True)
class Tuned:
    """What :func:`tune` found.

    Attributes:
        encoder: an encoder with the best config, whose transforms are fitted; ``save_pretrained`` saves it.
        names: the names of the numbers that decided.
        tried: all configurations, the best first; those with words are the best one with words beside it.
        skipped: passes that were not run, and why.
        neighbours: some texts and their nearest ones, with the rule for any model and with what was chosen.
        gain: what the choice is worth on labels that were held out; ``None`` without labels.
    """

    encoder: EchoEncoder
    names: tuple[str, ...]
    tried: list[Tried]
    skipped: dict[Pass, str]
    neighbours: list[Neighbours]
    gain: Gain | None = None

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
    pairs: Labelled | None = None,
    max_cost: float = 1.1,
    minutes: float = 5.0,
    passes: Sequence[Pass] = PASSES,
    late_chunking: bool = False,
    options: EncoderOptions | None = None,
    show_progress: bool | Show = False,
) -> Tuned:
    """Find the config with which a model embeds texts like these best, without training, and without labels if need be.

    The model runs once for each template and start layer, which gives the states of all exit layers; everything else is
    arithmetic on those. The numbers that decide need no labels: :mod:`~echo_embeddings.tuning.halves`. Transforms are
    fitted on other texts than those that judge them.

    Args:
        model: a hub id, a folder or a ``.gguf`` file; ``None`` for the built-in model, without its training.
        texts: some hundred to some thousand texts like those that will be embedded, best of some sentences each.
        pairs: data with labels, which then decide: ``evaluation.open_dataset(path)``. At most 300 pairs, or 150 queries
            and 300 documents, are taken at random. One half of them decides, and ``Tuned.gain`` is from the other.
        max_cost: leave out what costs more than so many classical passes over a text; the paper's echo costs 2.
        minutes: begin no further pass of the model that would end after so many. What is left out is in
            ``Tuned.skipped``, and a second run may then find something else.
        passes: templates and start layers to try, in order. Those that the model's architecture cannot run are left
            out.
        late_chunking: leave out passes whose config has no vectors for chunks (``EchoEncoder.encode_chunks``), because
            it pools what follows the text.
        options: device, dtype, ``max_length`` and so on. Its ``model``, ``config``, ``devices`` and ``dimensions`` are
            not used.
        show_progress: show a progress bar, or a function to call with the name of the pass, the texts that are done,
            and how many there are; each text counts once a pass.

    Warns:
        LeftOutWarning: ``model`` is a folder that an encoder was saved to; layers above its exit layer are missing.

    Raises:
        InputError: fewer than 40 texts differ in their first 64 words and have at least 6, or there are too few labels.
        ConfigError: an argument cannot work.
        ModelError: the model cannot be loaded, or is not causal.
    """
    for name, value in {"max_cost": max_cost, "minutes": minutes}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"{name}={value!r}: give a number above 0")
    if not passes:
        raise ConfigError("passes=[] leaves nothing to try")
    if wrong := [one for one in passes if not isinstance(one, Pass)]:
        raise TypeError(f"passes must be a list of tuning.candidates.Pass(name, template, start), not {wrong[0]!r:.60}")
    unfit = {one: "it has no vectors for chunks" for one in passes if late_chunking and one.template.pool_tail}
    if not (passes := [one for one in passes if one not in unfit]):
        raise ConfigError("late_chunking=True leaves none of these passes: all pool what follows the text")
    _require_fit(model, pairs, options)
    options = (options or EncoderOptions()).replace(
        model=None if model is None else os.fspath(model), config=None, devices=None, dimensions=None
    )
    given = checked(texts, streamed=None)
    chosen = usable(given, _JUDGED + _OTHERS, _WORDS)
    count = 0 if pairs is not None else min(_JUDGED, len(chosen) // 2)
    judge = Halves.of(chosen[:count], _WORDS) if pairs is None else Labels.of(pairs)
    search = _Search(judge, [beginning(text, _WORDS) for text in chosen[count:]], options, max_cost)
    search.run(passes, minutes, show_progress)
    search.skipped |= unfit
    drawn = random.Random(0).sample(range(len(given)), min(_COUNTED, len(given)))  # noqa: S311 - no secret
    judged, counted = set(chosen[:count]), [given[i] for i in sorted(drawn)]
    apart = [text[:_CHARACTERS] for text in counted if text not in judged]
    return search.finished([text[:_CHARACTERS] for text in counted], apart)


def _require_fit(model: object, pairs: object, options: object) -> None:
    if model is not None and not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"model must be a hub id, a folder or a .gguf file, not a {type(model).__name__}: it is loaded here. Save "
            "a loaded model and its tokenizer to a folder, by their save_pretrained, and give that; of an encoder give "
            "what it was made from"
        )
    if pairs is not None and not hasattr(pairs, "parted"):
        given = repr(str(pairs)) if isinstance(pairs, str | os.PathLike) else "path"
        raise TypeError(
            f"pairs must be data with labels, not a {type(pairs).__name__}; open it: "
            f"echo_embeddings.evaluation.open_dataset({given})"
        )
    if options is not None and not isinstance(options, EncoderOptions):
        raise TypeError(f"options must be EncoderOptions(...), not a {type(options).__name__}")
    if options is not None and options.precision == "int8":
        raise ConfigError(
            "precision='int8' needs the range of each dimension, which is not known before a config is chosen; leave "
            "it out, and make int8 of the result: tuned.encoder.fit_ranges(texts).with_precision('int8')"
        )
    if model is not None and (Path(model).expanduser() / CONFIG_FILE).is_file():
        message = (
            f"{os.fspath(model)!r} was written by EchoEncoder: its config is not used here, and layers above its exit "
            "layer were not saved, so they cannot be tried. Tune the model that it was made from"
        )
        warn(LeftOutWarning(message))


@dataclass
class _Search:
    """All that was tried so far, and the states that it was tried on.

    Attributes:
        judge: decides.
        others: texts that transforms are fitted on while it does.
        options: how to run the model.
        max_cost: the most that a configuration may cost, in classical passes.
        tried: what was measured.
        skipped: passes that were not run, and why.
        unable: those of them that the model cannot run.
        states: of all texts, those that judge first, at the exits that were tried.
        embed_filter: that of the model, if its unembedding is in memory.
        depth: how many layers the model has.
    """

    judge: Judge
    others: list[str]
    options: EncoderOptions
    max_cost: float
    tried: list[Tried] = field(default_factory=list)
    skipped: dict[Pass, str] = field(default_factory=dict)
    unable: set[Pass] = field(default_factory=set)
    states: States = field(default_factory=dict)
    embed_filter: Transform | None = None
    depth: int = 0

    def run(self, passes: Sequence[Pass], minutes: float, show_progress: bool | Show) -> None:  # noqa: FBT001 - as given
        """Run the model once a pass, and try every configuration that this gives."""
        from echo_embeddings.model.loading import load

        loaded, needed = load(self._spec), self.judge.texts + self.others
        started, longest, seen = time.monotonic(), 0.0, set[tuple[Any, ...]]()
        self.embed_filter = _embed_filter(loaded)
        with _showing(show_progress, len(needed) * len(passes)) as show:
            for number, one in enumerate(passes):
                begun = time.monotonic()
                if self.tried and begun + longest - started > 60 * minutes:
                    self.skipped[one] = "no time was left"
                    continue
                if (runtime := self._runtime(loaded, one)) is None:
                    continue
                layers = runtime.backbone.layers
                if why := self._useless(one, layers, seen):
                    self.skipped[one] = why
                    continue
                advance = partial(show, one.name, number * len(needed))
                states = runtime.states_at_exits(needed, "document", advance)
                self._try(one, layers, states)
                longest = max(longest, time.monotonic() - begun)
        if not self.tried:
            reasons = [why for one, why in self.skipped.items() if one not in self.unable]
            raise ConfigError(reasons[0]) if reasons else ModelError(next(iter(self.skipped.values())))
        self.tried = _ranked(self.tried)

    def _useless(self, one: Pass, layers: Layers, seen: set[tuple[Any, ...]]) -> str | None:
        """Why a pass need not be run, if that is so; ``seen`` remembers those that were."""
        what = (one.template, layers.start, one.pooling)
        if what in seen:
            return f"in this model its copy is made at layer {layers.start} too, so it is the same as one before"
        seen.add(what)
        if next(candidates(one, layers, self.max_cost), None) is None:
            return f"max_cost={self.max_cost:g} leaves no configuration; the cheapest layer costs more"
        return None

    def finished(self, texts: list[str], apart: list[str]) -> Tuned:
        """Choose the words beside the best configuration, and fit what is to be fitted on all texts.

        Args:
            texts: n-grams are counted in these.
            apart: those of them that do not judge; n-grams are counted in these while the length of words is chosen.
        """
        best, judge = self.tried[0].candidate, self.judge
        judged, own = len(judge.texts), self.states[_key(best)]
        transform = self._fitted(best.transform, own[judged:])
        plain = best.config(self._max_length).replace(transforms=() if transform is None else (transform,))
        words = Lexical.fit(apart)
        documents = judge.texts[: judge.documents]
        spreads = spread_of(_vectors(plain, own[: judge.documents], documents)), spread_of(words.vectors(documents))
        tried = [
            Tried(best, length, judge.measure(_made(_with_words(plain, words, length), own[:judged], judge)))
            for length in dict.fromkeys(length_of_words(share, *spreads) for share in judge.shares)
        ]
        length = _ranked(tried)[0].words
        with_words = [replace(one, score=_score(one.numbers, self.tried)) for one in tried if one.words]
        transform = self._fitted(best.transform, self._own_texts(own))
        config = plain.replace(transforms=() if transform is None else (transform,))
        config = _with_words(config, Lexical.fit(texts), length)
        return Tuned(
            EchoEncoder.from_options(self.options.replace(config=config)),
            judge.names,
            [*self.tried, *with_words],
            self.skipped,
            *self._shown(config, own),
        )

    def _runtime(self, loaded: LoadedModel, one: Pass) -> Runtime | None:
        """Make ready for a pass; ``None`` if the architecture cannot run it."""
        from echo_embeddings.engine.runtime import Runtime
        from echo_embeddings.model.architecture import require_late_echo

        off = self.options.replace(speed=dict.fromkeys(self.options.off, False) | _OFF, compiled=False)
        config = one.config(self._max_length)
        try:
            if one.start:
                layers = config.layers(loaded.body.config.get_text_config().num_hidden_layers)
                require_late_echo(loaded.body, layers.start)
            return Runtime(loaded, config, off, self._spec)
        except (ModelError, ConfigError) as error:  # a ConfigError: too few layers for a copy
            if not one.start:
                raise
            self.skipped[one] = str(error)
            self.unable.add(one)
            return None

    def _try(self, of: Pass, layers: Layers, states: Vectors) -> None:
        """Measure every configuration of one pass, from the states at its exits ``[n, exits, dim]``."""
        judged, self.depth = len(self.judge.texts), layers.depth
        for exit_, some in candidates(of, layers, self.max_cost):
            here = self.states[_key(some[0])] = np.ascontiguousarray(states[:, exit_])
            for candidate in some:
                if candidate.transform == EmbedFilter.name and self.embed_filter is None:
                    continue
                transform = self._fitted(candidate.transform, here[judged:])
                rows = unit(here[:judged] if transform is None else transform(here[:judged]))
                self.tried.append(Tried(candidate, 0.0, self.judge.measure(rows)))

    def _fitted(self, name: str, states: Vectors) -> Transform | None:
        fit = TRANSFORMS[name]
        return self.embed_filter if name == EmbedFilter.name else None if fit is None else fit(states)

    def _own_texts(self, states: Any) -> Any:
        """Of what belongs to all texts, that which belongs to the user's own: whole ones that judge, and the others."""
        judged, fitted = len(self.judge.texts), self.judge.fitted
        return np.concatenate([states[:fitted], states[judged:]])

    def _shown(self, config: EchoConfig, own: Vectors) -> tuple[list[Neighbours], Gain | None]:
        """Neighbours before and after, and the gain on what was held out."""
        before, texts = self._rule(), [*self.judge.texts[: self.judge.fitted], *self.others]
        near = []
        if before is not None:
            near = neighbours(
                texts,
                _vectors(before[0], self._own_texts(before[1]), texts),
                _vectors(config, self._own_texts(own), texts),
            )
        if not isinstance(self.judge, Labels):
            return near, None
        judge, judged = self.judge, len(self.judge.texts)
        first = None if before is None else judge.judged(_made(before[0], before[1][:judged], judge))
        held_out = judge.held_out
        return near, Gain(held_out.metric, held_out.size, first, judge.judged(_made(config, own[:judged], judge)))

    def _rule(self) -> tuple[EchoConfig, Vectors] | None:
        """The rule for any model with its states, if a pass gave them."""
        rule = EchoConfig.preset(RULE).replace(max_length=self._max_length)
        try:
            layers = rule.layers(self.depth)
        except ConfigError:  # too few layers
            return None
        rule = rule.replace(start_layer=layers.start, exit_layer=layers.exit, final_norm=layers.final_norm)
        plain = rule.replace(lexical=None)
        same = (one.candidate for one in self.tried if one.candidate.config(self._max_length) == plain)
        return next(((rule, self.states[_key(one)]) for one in same), None)

    @property
    def _max_length(self) -> Length:
        return self.options.max_length or _MAX_LENGTH

    @property
    def _spec(self) -> ModelSpec:
        options = self.options
        return ModelSpec(
            options.model, None, None if options.adapter is None else os.fspath(options.adapter), options.device,
            options.dtype, dict(options.model_kwargs),
        )  # fmt: skip


def _key(candidate: Candidate) -> tuple[Pass, int, bool]:
    return candidate.of, candidate.exit, candidate.final_norm


def _with_words(config: EchoConfig, words: Lexical, length: float) -> EchoConfig:
    if not length:
        return config
    return config.replace(lexical=words.weighted(document_weight=length, query_weight=2 * length))


def _made(config: EchoConfig, states: Vectors, judge: Judge) -> Vectors:
    """The unit vectors of the texts that judge."""
    return _vectors(config, states, judge.texts, judge.of_words)


def _vectors(
    config: EchoConfig, states: Vectors, texts: Sequence[str], of_words: NDArray[np.float32] | None = None
) -> Vectors:
    """Unit vectors of texts, from their pooled states; they have the cosines that an encoder's have.

    Args:
        config: its transforms and lexical part.
        states: ``[n, hidden]``.
        texts: the texts.
        of_words: ``[n]``, how long the words of each are, in those of a document.
    """
    for transform in config.transforms:
        states = transform(states)
    if config.lexical is None:
        return unit(states)
    words = config.lexical.weight("document") * config.lexical.vectors(texts)
    words = words if of_words is None else words * of_words[:, None]
    return unit(np.concatenate([unit(states), words], axis=1))


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


def _embed_filter(loaded: LoadedModel) -> Transform | None:
    """EmbedFilter of a model whose unembedding is in memory; another would be loaded a second time for it."""
    if not getattr(loaded.body.config.get_text_config(), "tie_word_embeddings", False):
        return None
    weight = loaded.body.get_input_embeddings().weight
    return EmbedFilter.from_unembedding(weight.detach().float().cpu().numpy())


def _ranked(tried: Sequence[Tried]) -> list[Tried]:
    """With their scores, the best first; of equals the cheaper, then the simpler."""
    scored = [replace(one, score=_score(one.numbers, tried)) for one in tried]
    return sorted(scored, key=lambda one: (-one.score, one.candidate.cost))


def _score(numbers: Sequence[float], among: Sequence[Tried]) -> float:
    """The mean over the numbers of the share of configurations whose number is smaller, from 0 to 1."""
    others = np.asarray([one.numbers for one in among])
    smaller = (others < np.asarray(numbers)).sum(axis=0)
    return float(smaller.sum() / others.size)  # whole numbers are added, so that equals are equal
