"""Markdown of a result. It knows the JSON alone, so a report can be written again from an old file."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

from .contenders import BASE

Row = list[str]
#: Bars of the issue: whom, over whom, at least how many times as fast.
BARS = (
    ("ours-echo", BASE, 1.5),
    ("ours-echo-compiled", BASE, 1.5),
    ("ours-echo", "st-echo-stock", 5.0),
    ("ours-echo", "st-echo-float32", 5.0),
    ("ours-zero-shot", BASE, 2.5),
    ("ours-default", BASE, 2.5),
    ("ours-default-compiled", BASE, 2.5),
    ("ours-zero-shot", "ours-classical", 1 / 1.15),
    ("ours-default", "ours-classical", 1 / 1.15),
    ("ours-zero-shot", "st-classical-best", 1.0),
    ("ours-default", "st-classical-best", 1.0),
)
NOTES = """\
- *texts/s*, *tokens/s*: of the median round. Tokens are content tokens of the built-in model, each text's once however
  often it is read; all-MiniLM's are those it reads of at most 256.
- *ratio*: throughput over (c)'s in the same round, median of the rounds.
- *share of peak*: operations that the configuration needs (2 x parameters of the layers x tokens, prompts and chat
  templates among them, and causal attention; padding not counted, work that was saved not either) over the fastest
  matrix products in the same round, in the dtype that is fastest here; all contenders are held against that peak.
- *padding*: operations of the linear layers beyond those needed, as counted by hooks in a pass without the clock. Below
  zero work is saved; n/a where layers are fused and cannot be counted.
- *memory*: high-water mark of a fresh process, loading included. *cosine*: the smallest to the same configuration in
  float32, one text at a time.
- *sampled k/n*: too slow for the whole mix; ran k of its n texts, its time is scaled by tokens, in its favour.
- Each runs in a process of its own, as its users run it; one computes at a time.
- sentence-transformers reads the paper's echo prompt but averages all tokens (stock: takes the last one): the same work
  as the paper's echo, other vectors. Stock, 6.2 puts the model's chat template around every text and keeps bf16."""


def markdown(result: dict[str, Any]) -> str:
    """The whole report."""
    about, version = result["machine"], result["versions"]
    head = (
        f"# Throughput, {result['date']}\n\n`{result['command']}`, commit {result['commit']}, {about['cpu']}, "
        f"{about['cores']} cores, {about['threads']} threads, device {about['device']}; torch {version['torch']}, "
        f"transformers {version['transformers']}, sentence-transformers {version['sentence-transformers']}.\n"
        f"bf16 matrix peak {about['bf16_peak'] / 1e9:.0f} GFLOP/s, float32 {about['float32_peak'] / 1e9:.0f}. "
        f"Interleaved rounds: {result['rounds']}; medians. Load average before: {about['load']}."
    )
    parts = [head, *(_mix(mix, result["memory"]) for mix in result["mixes"]), NOTES, _bars(result["mixes"])]
    parts += [_latency(result["latency"]), _lengths(result["lengths"]), _corpora(result["corpora"])]
    # A reason may name a type such as ``str | None``, and that is no new cell.
    failures = [[f["contender"], f["stage"], f["reason"].replace("|", "\\|")] for f in result["failures"]]
    parts.append(_section("Failed", ["contender", "where", "reason"], failures, left=3))
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Row, rows: Iterable[Row], left: int = 1) -> str:
    lines = [head, ["---"] * left + ["--:"] * (len(head) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _section(title: str, head: Row, rows: list[Row], left: int = 1) -> str:
    return f"## {title}\n\n{_table(head, rows, left)}" if rows else ""


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def ratio(mix: dict[str, Any], own: str, base: str) -> float | None:
    """Median over rounds of how many times as fast ``own`` was as ``base``; ``None`` where either is missing."""
    seconds = {entry["contender"]: entry["seconds"] for entry in mix["entries"]}
    if own not in seconds or base not in seconds:
        return None
    return median(b / a for a, b in zip(seconds[own], seconds[base], strict=True))


def share(mix: dict[str, Any], entry: dict[str, Any]) -> float:
    """Share of the matrix peak, median over rounds."""
    pairs = zip(entry["seconds"], mix["peaks"], strict=True)
    return median(entry["credited"] / seconds / peak for seconds, peak in pairs)


def _mix(mix: dict[str, Any], memory: dict[str, dict[str, float]]) -> str:
    head = ["contender", "texts/s", "tokens/s", "ratio", "share of peak", "padding", "memory", "cosine", "batch", ""]
    rows = []
    for entry in mix["entries"]:
        seconds, count = median(entry["seconds"]), len(entry["chosen"])
        rows.append(
            [
                entry["label"],
                f"{entry['of'] / seconds:.1f}",
                f"{entry['tokens'] / seconds:.0f}",
                _number(ratio(mix, entry["contender"], BASE), ".2f"),
                f"{share(mix, entry):.0%}",
                _number(entry["padding"], ".0%"),
                _number(memory.get(entry["contender"], {}).get(mix["name"]), ".0f"),
                _number(entry["cosine"], ".5f"),
                "own" if entry["batch_size"] is None else str(entry["batch_size"]),
                f"sampled {count}/{entry['of']}" if count < entry["of"] else "",
            ]
        )
    lengths = mix["lengths"]
    size = f"{mix['texts']} texts, {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all"
    return f"## {mix['name'].capitalize()} ({size})\n\n{_table(head, rows)}"


def _bars(mixes: list[dict[str, Any]]) -> str:
    rows = []
    for own, base, wanted in BARS:
        ratios = [ratio(mix, own, base) for mix in mixes]
        if any(value is not None for value in ratios):
            rows.append([f"{own} over {base}", f"{wanted:.2f}", *(_number(value, ".2f") for value in ratios)])
    for own in ("ours-echo", "ours-echo-compiled", "ours-default", "ours-default-compiled", "ours-classical"):
        shares = [[share(mix, e) for e in mix["entries"] if e["contender"] == own] for mix in mixes]
        if any(shares):
            rows.append([f"{own}, share of peak", "60% (passages)", *(f"{s[0]:.0%}" if s else "n/a" for s in shares)])
    cosines = [[e["cosine"] for e in mix["entries"] if e["cosine"] and e["contender"][:5] == "ours-"] for mix in mixes]
    if any(cosines):
        rows.append(["ours, smallest cosine", "0.99900", *(f"{min(c):.5f}" if c else "n/a" for c in cosines)])
    return _section("Bars", ["bar", "at least", *(mix["name"] for mix in mixes)], rows)


def _latency(rows: list[dict[str, Any]]) -> str:
    cells = [[row["label"], f"{row['p50'] * 1e3:.1f}", f"{row['p95'] * 1e3:.1f}"] for row in rows]
    return _section("Latency of one short query, ms", ["contender", "p50", "p95"], cells)


def _lengths(points: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(point["length"] for point in points))
    cells: dict[str, dict[int, str]] = {}
    for point in points:
        cells.setdefault(point["label"], {})[point["length"]] = f"{point['tokens_per_second']:.0f}"
    rows = [[label, *(own.get(column, "") for column in columns)] for label, own in cells.items()]
    return _section("Content tokens/s against length", ["contender", *map(str, columns)], rows)


def _corpora(points: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(point["texts"] for point in points))
    cells: dict[str, dict[int, str]] = {}
    for point in points:
        shown = point["skipped"] if "skipped" in point else f"{point['texts_per_second']:.0f}"
        cells.setdefault(point["label"], {})[point["texts"]] = shown
    rows = [[label, *(own.get(column, "") for column in columns)] for label, own in cells.items()]
    return _section("Short texts/s against the size of the corpus", ["contender", *map(str, columns)], rows)
