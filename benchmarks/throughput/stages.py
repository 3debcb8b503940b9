"""The stages of a run: all contenders are loaded and take turns, or one after the other if memory holds only one.

One after the other means that rounds are not interleaved: if another program slows the machine, it slows one contender
only. That is acceptable on a GPU that does nothing else. Ratios pair the rounds by number, and each contender has the
peaks of its own rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

from . import curves, measure
from .contenders import Field
from .mixes import PASSAGES, SHORT, Mix, Prose
from .settings import Settings

#: Seconds of a run with a limit that the tables leave for the stages after them.
_AFTER_TABLES = 25.0


def together(
    settings: Settings, names: list[str], field: Field, prose: Prose, texts: list[Mix], result: dict[str, Any]
) -> Iterator[str]:
    """Measure everything and put it into ``result``; yield the name of each stage when it is done."""
    field.load(names)
    for i, mix in enumerate(texts):
        clock = field.clock.part(len(texts) - i, _AFTER_TABLES)
        result["mixes"].append(measure.table(field, mix, settings.effort, clock))
        yield mix.name
    curves.use_batch_sizes(field, result["mixes"], SHORT)
    result["latency"] = curves.latency(field, settings.queries) if settings.queries else []
    yield "latency"
    measure.cosines(field, texts, result["mixes"], settings.cosines)
    yield "cosines"
    curves.use_batch_sizes(field, result["mixes"], PASSAGES)
    spread = (list(settings.lengths), settings.length_tokens, settings.length_rounds, settings.batch_sizes[-1])
    result["lengths"] = curves.by_length(field, prose, *spread)
    yield "lengths"
    if settings.memory:
        result["memory"] = _memory(field, texts, result["mixes"])
        yield "memory"
    curves.use_batch_sizes(field, result["mixes"], SHORT)
    sizes = list(settings.sizes)
    result["corpora"] = curves.by_corpus(field, sizes, settings.size_cap) if sizes else []
    yield "corpora"


def one_by_one(
    settings: Settings, names: list[str], field: Field, _: Prose, texts: list[Mix], result: dict[str, Any]
) -> Iterator[str]:
    """Measure tables, latency and cosines only, one contender after the other; yield its name when it is done."""
    result["mixes"] = [
        {"name": mix.name, "texts": len(mix.texts), "lengths": mix.lengths, "peaks": [], "entries": []} for mix in texts
    ]
    for i, name in enumerate(names):
        clock = field.clock.part(len(names) - i)
        field.load([name])
        # The last mix is the most important one of such a run, so it comes first: time may run out.
        for mix, whole in list(zip(texts, result["mixes"], strict=True))[::-1]:
            own = measure.table(field, mix, settings.effort, clock)
            whole["entries"] += [entry | {"peaks": own["peaks"]} for entry in own["entries"]]
        curves.use_batch_sizes(field, result["mixes"], SHORT)
        result["latency"] += curves.latency(field, settings.queries) if settings.queries else []
        measure.cosines(field, texts, result["mixes"], settings.cosines)
        field.unload(name)
        yield name


def _memory(field: Field, texts: list[Mix], tables: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Measure the peak memory of each contender on the texts that it ran."""
    marks: dict[str, dict[str, float]] = {}
    for name in field.loaded:
        entries = [entry for table in tables for entry in table["entries"] if entry["contender"] == name]
        print(f"memory: {name}", flush=True)
        if (found := field.attempt(name, "memory", partial(_marks, field, name, texts, entries))) is not None:
            marks[name] = found
    return marks


def _marks(field: Field, name: str, texts: list[Mix], entries: list[dict[str, Any]]) -> dict[str, float]:
    """The peak memory after each mix in a new process, in MiB. It can only rise from one mix to the next."""
    by_name = {mix.name: mix for mix in texts}
    with closing(field.fresh(name)) as guest:
        marks = {"loaded": guest.high_water()}
        for entry in entries:
            guest.batch_size = entry["batch_size"]
            guest.seconds([by_name[entry["mix"]].texts[i] for i in entry["chosen"]])
            marks[entry["mix"]] = guest.high_water()
    return marks
