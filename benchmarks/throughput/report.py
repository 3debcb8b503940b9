"""Write a result as Markdown, from the JSON alone, so that a report can be made again from an old file."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

from .contenders import BASE

Row = list[str]
#: What this library wants to reach: a contender, another one, and how many times as fast the first shall be at least.
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
{memory}*cosine*: the smallest to the same configuration in
  float32, one text at a time.
- *sampled k/n*: too slow for the whole mix; ran k of its n texts, its time is scaled by tokens, in its favour.
- Each runs in a process of its own, as its users run it; one computes at a time.
- sentence-transformers reads the paper's echo prompt but averages all tokens (stock: takes the last one): the same work
  as the paper's echo, other vectors. Stock, 6.2 puts the model's chat template around every text and keeps bf16."""

#: What is put in place of ``{memory}``: on a processor; ``ON_GPU`` on a GPU.
ON_HOST = "- *memory*: high-water mark of a fresh process, loading included. "
ON_GPU = """\
- *memory*: MiB that torch had allocated on the GPU at most in that mix, weights included, the CUDA context (about 500)
  not. *packed*: sequences stand in one row, without padding.
- Peaks are of products of 8192 x 8192 matrices. *of datasheet*: the same operations over the dense bf16 rate that the
  card's maker states.
- Processes share the GPU, one computes at a time; clocks stop when it has done all. Float32 is without TF32.
- """
ONE_BY_ONE = """\
- One contender after the other, because the GPU holds no more: rounds are not interleaved, *ratio* pairs them by
  number. Weights are random."""


def markdown(result: dict[str, Any]) -> str:
    """Write the whole report."""
    about, version = result["machine"], result["versions"]
    head = (
        f"# Throughput, {result['date']}\n\n`{result['command']}`, commit {result['commit']}, {about['cpu']}, "
        f"{about['cores']} cores, {about['threads']} threads, device {about['device']}; torch {version['torch']}, "
        f"transformers {version['transformers']}, sentence-transformers {version['sentence-transformers']}.\n"
        f"bf16 matrix peak {_rates(about)}. "
        f"Interleaved rounds: {result['rounds']}; medians. Load average before: {about['load']}."
    )
    parts = [head, *(_mix(mix, result) for mix in result["mixes"] if mix["entries"]), _notes(result)]
    parts.append(_bars(result["mixes"]))
    parts += [_latency(result["latency"]), _lengths(result["lengths"]), _corpora(result["corpora"])]
    # A reason may contain a bar, as in ``str | None``, which would begin a new cell.
    failures = [[f["contender"], f["stage"], f["reason"].replace("|", "\\|")] for f in result["failures"]]
    parts.append(_section("Failed", ["contender", "where", "reason"], failures, left=3))
    return "\n\n".join(part for part in parts if part) + "\n"


def _rates(about: dict[str, Any]) -> str:
    bf16, float32, stated = about["bf16_peak"], about["float32_peak"], about.get("datasheet")
    if bf16 < 1e13:
        return f"{bf16 / 1e9:.0f} GFLOP/s, float32 {float32 / 1e9:.0f}"
    of = f" ({bf16 / stated:.0%} of the datasheet's {stated / 1e12:.0f})" if stated else ""
    return f"{bf16 / 1e12:.0f} TFLOP/s{of}, float32 {float32 / 1e12:.0f}"


def _notes(result: dict[str, Any]) -> str:
    """The meaning of the columns on the machine of this result."""
    notes = NOTES.format(memory=ON_GPU if "gpu_memory" in result["machine"] else ON_HOST)
    is_alone = any("peaks" in entry for mix in result["mixes"] for entry in mix["entries"])
    return f"{notes}\n{ONE_BY_ONE}" if is_alone else notes


def _table(head: Row, rows: Iterable[Row], left: int = 1) -> str:
    lines = [head, ["---"] * left + ["--:"] * (len(head) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _section(title: str, head: Row, rows: list[Row], left: int = 1) -> str:
    return f"## {title}\n\n{_table(head, rows, left)}" if rows else ""


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def ratio(mix: dict[str, Any], own: str, base: str) -> float | None:
    """How many times as fast ``own`` is as ``base``: the median over the rounds; ``None`` if either is missing."""
    seconds = {entry["contender"]: entry["seconds"] for entry in mix["entries"]}
    if own not in seconds or base not in seconds:
        return None
    # If they were measured one by one, they may have different numbers of rounds.
    return median(b / a for a, b in zip(seconds[own], seconds[base], strict=False))


def share(mix: dict[str, Any], entry: dict[str, Any]) -> float:
    """The share of the peak of matrix products: the median over the rounds."""
    pairs = zip(entry["seconds"], entry.get("peaks", mix["peaks"]), strict=True)
    return median(entry["credited"] / seconds / peak for seconds, peak in pairs)


def _mix(mix: dict[str, Any], result: dict[str, Any]) -> str:
    head = ["contender", "texts/s", "tokens/s", "ratio", "share of peak", "padding", "memory", "cosine", "batch", ""]
    stated, rows = result["machine"].get("datasheet"), []
    head[5:5] = ["of datasheet"] if stated else []
    for entry in mix["entries"]:
        seconds, count = median(entry["seconds"]), len(entry["chosen"])
        memory = entry.get("gpu_memory") or result["memory"].get(entry["contender"], {}).get(mix["name"])
        remarks = [f"sampled {count}/{entry['of']}"] if count < entry["of"] else []
        rows.append(
            [
                entry["label"],
                f"{entry['of'] / seconds:.1f}",
                f"{entry['tokens'] / seconds:.0f}",
                _number(ratio(mix, entry["contender"], BASE), ".2f"),
                f"{share(mix, entry):.0%}",
                *([f"{entry['credited'] / seconds / stated:.0%}"] if stated else []),
                _number(entry["padding"], ".0%"),
                _number(memory, ".0f"),
                _number(entry["cosine"], ".5f"),
                "own" if entry["batch_size"] is None else str(entry["batch_size"]),
                ", ".join([*remarks, *filter(None, [entry.get("note")])]),
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
