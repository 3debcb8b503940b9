"""Sentences of which only one half tells what is alike (paper, section 3 and figure 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.types import Vectors
from research.paper.figures import bars, histograms
from research.paper.passes import cosines, token_states
from research.paper.report import Section, Table, counted, spread
from research.paper.scoring import key
from research.paper.structures import KINDS, Triplet, triplets
from research.paper.study import Study

NAME, NEEDS_DATA = "structures", False
SAMPLES, SIZE, QUICK_SIZE = 3, 48, 12

# The prompts of the paper's toy experiments (appendix C).
ECHO = EchoConfig(template="Rewrite the following sentence: {text}\nThe rewritten sentence: {text}")
CONFIGS = {
    "classical": EchoConfig(template="Write a sentence: {text}"),
    "echo": ECHO,
    "late echo": ECHO.replace(start_layer=0.6, exit_layer=0.8),
}
METHODS = ("classical mean", "classical last", "echo mean", "late echo")
#: Cosines that differ by less are equal but for rounding.
EQUAL = 1e-4


def run(study: Study) -> Section:
    """Measure all models and say what was found."""
    samples = study.samples(SAMPLES, lambda sample: {model: _sample(study, model, sample) for model in study.models})
    values = {model: [found[model] for found in samples] for model in study.models}
    shares = {model: _shares(found) for model, found in values.items()}
    columns = ("early", "late", "both", "twins")
    rows = [
        [model, name, *(spread(shares[model][name][kind]) if shares[model][name][kind] else "-" for kind in columns)]
        for model in values
        for name in METHODS
    ]
    size = QUICK_SIZE if study.quick else SIZE
    alone = {kind: [_words_alone(triplets(kind, sample, size)) for sample in range(len(samples))] for kind in KINDS}
    alone["both"] = [(a + b) / 2 for a, b in zip(alone["early"], alone["late"], strict=True)]
    rows.append(["no model", "words in common", *(spread(alone[kind]) for kind in columns)])
    table = Table(
        "Triplets, in percent, in which the query is nearer to the positive than to the negative text: mean (least to "
        f"greatest) of {counted(samples)}, each with {size} of each kind. In `twins` only the opening, which all three "
        "texts share, is pooled; it does not hold the last token. Words in common mislead in `early` and `late`, as "
        "they are meant to.",
        ["model", "method", *(f"{kind} ({what})" for kind, what in list(KINDS.items())[:2]), "both", "twins"],
        rows,
    )
    figures: dict[str, tuple[Any, str]] = {}
    for number, model in enumerate(values):
        by_kind = {kind: {name: shares[model][name][kind] for name in METHODS} for kind in ("both", "early", "late")}
        figures[f"bars-{number}"] = (
            bars(by_kind, f"{model}: right, %", floor=50),
            f"{model}: share of triplets that each method gets right, by structure",
        )
        figures[f"twins-{number}"] = (
            histograms(_twins(values[model]), f"{model}: cosine of the openings"),
            f"{model}: cosines of identical openings with the positive and with the negative text",
        )
    return Section(NAME, "Which half of a sentence tells", _findings(shares, values), [table], figures)


def _sample(study: Study, model: str, sample: int) -> dict[str, Any]:
    """Cosines by method and kind, on one sample."""
    size = QUICK_SIZE if study.quick else SIZE
    rows = {kind: triplets(kind, sample, size) for kind in KINDS}
    found: dict[str, Any] = {}
    for name, config in CONFIGS.items():
        place = key(study, model, config, [vars(one) for kind in KINDS for one in rows[kind]])
        found |= study.once(
            NAME, place, lambda name=name, config=config: measured(study.encoder(model, config), name, rows)
        )
    return found


def measured(encoder: EchoEncoder, name: str, rows: Mapping[str, Sequence[Triplet]]) -> dict[str, Any]:
    """For each pooling of a config and each kind: cosines of the queries with the positive and the negative texts.

    Args:
        encoder: the model with the config.
        name: one of :data:`CONFIGS`.
        rows: triplets by kind.
    """
    texts = list(dict.fromkeys(text for kind in rows.values() for one in kind for text in _texts(one)))
    states = dict(zip(texts, token_states(encoder, texts), strict=True))
    means = {text: state.mean(axis=0) for text, state in states.items()}
    lasts = {text: state[-1] for text, state in states.items()}
    poolings = {"classical": {"classical mean": means, "classical last": lasts}, "echo": {"echo mean": means}}
    found: dict[str, Any] = {
        method: {kind: _cosines(rows[kind], vectors) for kind in rows if kind != "twins"}
        for method, vectors in poolings.get(name, {name: means}).items()
    }
    of_openings = _twin_cosines(encoder, rows["twins"], states)
    for method, kinds in found.items():
        if method != "classical last":  # the last token is none of the opening's
            kinds["twins"] = of_openings
    return found


def opening_tokens(encoder: EchoEncoder, one: Triplet) -> int:
    """How many tokens the three texts have in common within their opening."""
    tokenizer, spaced = encoder.runtime.tokenizer, encoder.config.template_for("document").spaced
    ids = [content.ids for content in tokenizer.contents(_texts(one), spaced=spaced, limit=encoder.max_length)]
    ends = tokenizer.offsets(one.query, spaced=spaced)[:, 1]
    common = 0
    for a, b, c, end in zip(*ids, ends, strict=False):
        if not (a == b == c and end <= len(one.opening)):
            break
        common += 1
    return common


def _twin_cosines(encoder: EchoEncoder, rows: Sequence[Triplet], states: Mapping[str, Vectors]) -> list[list[float]]:
    openings = [opening_tokens(encoder, one) for one in rows]
    pooled = [
        np.stack([states[_texts(one)[part]][:count].mean(axis=0) for one, count in zip(rows, openings, strict=True)])
        for part in range(3)
    ]
    return [cosines(pooled[0], pooled[1]), cosines(pooled[0], pooled[2])]


def _cosines(rows: Sequence[Triplet], vectors: Mapping[str, Vectors]) -> list[list[float]]:
    query, positive, negative = (np.stack([vectors[_texts(one)[part]] for one in rows]) for part in range(3))
    return [cosines(query, positive), cosines(query, negative)]


def _texts(one: Triplet) -> tuple[str, str, str]:
    return one.query, one.positive, one.negative


def _shares(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """By method and kind, for each sample: how many percent are right."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in METHODS:
        kinds = {kind: [_right(sample[name][kind]) for sample in samples if kind in sample[name]] for kind in KINDS}
        both = [(a + b) / 2 for a, b in zip(kinds["early"], kinds["late"], strict=True)]
        found[name] = kinds | {"both": both}
    return found


def _right(pair: Sequence[Sequence[float]]) -> float:
    return 100 * float(np.mean([a - b > EQUAL for a, b in zip(*pair, strict=True)]))


def _words_alone(rows: Sequence[Triplet]) -> float:
    """In percent: how often the query has more words in common with the positive than with the negative text."""
    right = []
    for one in rows:
        query, positive, negative = (set(re.findall(r"\w+", text.lower())) for text in _texts(one))
        near, far = (len(query & other) / len(other) ** 0.5 for other in (positive, negative))
        right.append(near > far)
    return 100 * float(np.mean(right))


def _twins(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    return {
        name: {
            side: [value for sample in samples for value in sample[name]["twins"][part]]
            for part, side in enumerate(("with the positive", "with the negative"))
        }
        for name in METHODS
        if name != "classical last"
    }


def _findings(shares: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    against, for_it = [], []
    for model, found in shares.items():
        echo, classical, last = (
            np.mean(found[name]["both"]) for name in ("echo mean", "classical mean", "classical last")
        )
        said = (
            f"**{model}**: over both structures the paper's echo is right in {echo:.0f} % of the triplets, late echo "
            f"in {np.mean(found['late echo']['both']):.0f} %, the classical mean in {classical:.0f} %, the classical "
            f"last token in {last:.0f} %."
        )
        holds = echo > max(classical, last)
        (for_it if holds else against).append(said if holds else f"{said} Here the paper's ordering does not hold.")
        gains = {kind: np.mean(found["echo mean"][kind]) - np.mean(found["classical mean"][kind]) for kind in KINDS}
        said = (
            f"**{model}**: the paper says that classical embeddings fail where the beginning tells, and that echo "
            f"mends that. Echo minus the classical mean is {gains['early']:+.0f} points where the beginning tells and "
            f"{gains['late']:+.0f} where the end tells; "
        )
        holds = gains["early"] > max(0, gains["late"])
        (for_it if holds else against).append(said + ("so it is here." if holds else "so it is not here."))
        twins = _twins(values[model])
        same = max(abs(a - b) for a, b in zip(*twins["classical mean"].values(), strict=True))
        apart = {name: float(np.mean(found[name]["twins"])) for name in ("echo mean", "late echo")}
        if same == 0:
            equal = "their cosines with both texts are equal"
        else:
            equal = f"their cosines with both texts differ by at most {same:.0e}"
        said = (
            f"**{model}**: identical openings have one classical vector whatever follows, as it must be: {equal}. Echo "
            f"puts the opening nearer to the one whose rest means the same in {apart['echo mean']:.0f} % of the "
            f"triplets, late echo in {apart['late echo']:.0f} %."
        )
        holds = same < EQUAL and apart["echo mean"] > 50
        (for_it if holds else against).append(said)
    return [*against, *for_it]
