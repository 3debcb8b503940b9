"""Real text for the FAISS examples: what Python's own library says about itself, and questions about it."""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from echo_embeddings.data.passages import docstrings

MODULES = (
    "argparse base64 bisect calendar configparser contextlib csv datetime difflib fractions glob gzip heapq "
    "inspect ipaddress locale mimetypes pathlib pickle pprint queue random sched shutil smtplib socket ssl "
    "statistics string subprocess tarfile tempfile textwrap threading timeit traceback weakref webbrowser zipfile"
)
QUESTIONS = [
    "How do I find the middle value of a list of numbers?",
    "run another program and read what it printed",
    "pick some items from a list by chance",
    "break a long text into lines that fit the screen",
    "delete a folder and everything in it",
    "make several threads wait for each other",
    "read a table from a file with commas",
    "show the difference between two texts",
    "how much time does a piece of code take?",
    "send a mail through a server",
]


@dataclass(frozen=True)
class Doc:
    """One docstring: the module it stands in, its name there, its first paragraph, and what comes after."""

    module: str
    name: str
    text: str
    rest: str


def load_docs(count: int = 400, *, with_rest: bool = False) -> list[Doc]:
    """``count`` public docstrings, taken evenly from MODULES; ``with_rest``: only those of several paragraphs."""
    docs: dict[str, Doc] = {}
    for module in MODULES.split():
        path = Path(sysconfig.get_path("stdlib")) / f"{module}.py"
        if not path.is_file():
            path = path.with_suffix("") / "__init__.py"  # a package in this version of Python
        for passage in docstrings(path.read_bytes(), f"{module}.py") if path.is_file() else ():
            name, _, body = passage.text.partition(": ")
            first, _, rest = body.partition("\n\n")
            long_enough = 5 <= len(first.split()) <= 60 and (not with_rest or len(rest.split()) >= 12)
            if long_enough and "_" not in (name[0], name.split(".")[-1][0]):
                docs.setdefault(first, Doc(module, name, f"{module}.{name}: {first}", " ".join(rest.split()[:40])))
    listed = list(docs.values())
    return [listed[i] for i in np.linspace(0, len(listed) - 1, min(count, len(listed))).astype(int)]


def recall_at(found: np.ndarray, exact: np.ndarray) -> float:
    """The share of the exact neighbours that were found, for two arrays ``[questions, k]`` of row numbers."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)]))


if __name__ == "__main__":
    docs = load_docs()
    print(f"{len(docs)} passages from {len({doc.module for doc in docs})} modules, such as:")
    for doc in docs[::100]:
        print(" ", " ".join(doc.text.split())[:100])
