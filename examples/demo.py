"""A first minute with echo-embeddings: ask Python's own documentation. Run: make demo.

The default (an echo, fine-tuned) answers beside the same model without either.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from echo_embeddings import EchoEncoder
from echo_embeddings.data.passages import passages_of
from echo_embeddings.search import Hit, Index, Passage

MODULES = (
    "argparse base64 bisect calendar configparser contextlib csv datetime difflib email/message fractions "
    "glob gzip heapq http/client inspect ipaddress json/decoder json/encoder locale "
    "logging/__init__ logging/handlers mimetypes pathlib pickle pprint queue random sched shutil smtplib "
    "socket ssl statistics string subprocess tarfile tempfile textwrap threading timeit traceback "
    "unittest/case urllib/parse urllib/request weakref webbrowser zipfile"
)

QUESTIONS = (
    "How do I find the middle value of a list of numbers?",
    "run another program and read what it printed",
    "pick some items from a list by chance",
    "break a long text into lines that fit the screen",
    "delete a folder and everything in it",
    "make several threads wait for each other",
)

console = Console(highlight=False)


def documentation(limit: int) -> list[Passage]:
    """The first paragraph of each public docstring in MODULES, evenly thinned out to ``limit`` of them."""
    library = Path(sysconfig.get_path("stdlib"))
    first: dict[str, Passage] = {}
    for module in MODULES.split():
        if not (path := library / f"{module}.py").is_file():
            continue  # moved or gone in this version of Python
        package = module.removesuffix("/__init__").replace("/", ".")
        for passage in passages_of(path, path.name):
            name, text = passage.text.split(": ")[0], passage.text.split("\n\n")[0]
            source = package if name == path.stem else f"{package}.{name}"
            if len(text.split()) >= 5 and "._" not in source:
                first.setdefault(source, Passage(source, text))
    passages = list(first.values())
    step = max(len(passages) / limit, 1)
    return [passages[int(i * step)] for i in range(int(len(passages) / step))]


def build(folder: Path, encoder: EchoEncoder, passages: list[Passage], name: str) -> Index:
    """Embed the passages and save them as an index that the command line can search too."""
    _ = encoder.dimension  # loads the model, which shall not count
    started = time.perf_counter()
    index = Index.build(passages, encoder, show_progress=sys.stderr.isatty())
    index.save(folder)
    console.print(f"  {name}: {len(passages)} passages in {time.perf_counter() - started:.0f} s")
    return index


def shown(hits: list[Hit]) -> str:
    """Answers as a cell: where each stands, and how its text begins."""
    lines = []
    for hit in hits:
        text = " ".join(hit.passage.split(": ", 1)[-1].split())
        lines.append(f"{hit.rank}. {hit.source}\n   {text[:75]}{'…' if len(text) > 75 else ''}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=5000, help="index at most this many docstrings")
    limit = parser.parse_args().passages

    console.print("\n[bold]1. The model[/bold]: SmolLM2, 135 million parameters; fetched once (93 MB), then cached.")
    echo, classical = (EchoEncoder(config=name, on_truncate="ignore") for name in ("default", "classical"))

    passages = documentation(limit)
    console.print(
        f"[bold]2. The text[/bold]: {len(passages)} docstrings from Python's standard library. Embedding them twice:"
    )
    folder = Path(tempfile.gettempdir()) / "echo-embeddings-demo"
    with_echo = build(folder / "echo", echo, passages, "the default: it reads each text twice, and was fine-tuned")
    without = build(folder / "classical", classical, passages, "classical: the same model reads it once, untrained")

    console.print("[bold]3. The questions[/bold]: nobody tuned them; judge the answers yourself.\n")
    for question in QUESTIONS:
        table = Table(title=f"“{question}”", title_justify="left", title_style="bold", expand=True)
        table.add_column("default (echo, fine-tuned)", ratio=1)
        table.add_column("classical (no echo, untrained)", ratio=1)
        table.add_row(shown(with_echo.search(question, 3)), shown(without.search(question, 3)))
        console.print(table)

    console.print("\n[bold]What to try next[/bold] (after: source .venv/bin/activate)")
    for command, what in (
        (f'echo-embeddings search {folder / "echo"} "your question"', "ask this index more"),
        ("echo-embeddings index FOLDER my.index", "index your own notes, documents or code"),
        ("echo-embeddings compare PAIRS.tsv", "measure both on your own data: six questions prove little"),
        ("python examples/quickstart.py", "the same from Python, in three lines"),
    ):
        console.print(f"  [cyan]{command}[/cyan]\n      {what}", soft_wrap=True)


if __name__ == "__main__":
    main()
