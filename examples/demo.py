"""A first minute with echo-embeddings: ask Python's own documentation, beside BM25. Run: make demo.

The first start fetches the built-in model (93 MB) and embeds some 900 docstrings, in about a minute. The index
is kept in your cache folder, so the next start only loads the model and answers.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echo_embeddings import EchoEncoder
    from echo_embeddings.search import Hit, Index, Passage

MODULES = (
    "argparse base64 bisect contextlib csv datetime difflib email/message fractions glob gzip heapq http/client "
    "json/decoder json/encoder logging/__init__ logging/handlers mimetypes pathlib pickle pprint queue random sched "
    "shutil smtplib socket ssl statistics string subprocess tempfile textwrap threading timeit urllib/parse "
    "urllib/request webbrowser zipfile"
)

# Each shows one thing.
QUESTIONS = {
    "pick some items from a list by chance": "meaning: the answer has other words",
    "send an e-mail with a login": "meaning again",
    "getaddrinfo": "a name",
    "what does SMTP_SSL do": "a name in a sentence",
    "ZIP64": "a rare word",
    "BLAKE2": "nothing about it is there, so all scores are low",
}


def say(text: str = "") -> None:
    """Print a line that is on the screen at once, in a terminal or not."""
    print(text, flush=True)


@contextmanager
def signs_of_life(what: str, seconds: float = 10) -> Iterator[None]:
    """Print every ten seconds that something is still going on, until the block ends."""
    ended, started = threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(seconds):
            say(f"   {what}, {time.monotonic() - started:.0f} seconds so far")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def documentation(limit: int) -> list[Passage]:
    """The first paragraph of each public docstring in MODULES, evenly thinned out to ``limit`` of them."""
    from echo_embeddings.data.passages import passages_of
    from echo_embeddings.search import Passage

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


def kept(indexes: Path, passages: list[Passage], encoder: EchoEncoder) -> tuple[Index, Path | None]:
    """The index of these passages and its folder: that of the last start if it is of the same, else a new one.

    There is no folder if the index cannot be saved.
    """
    from echo_embeddings.errors import EchoError
    from echo_embeddings.search import Index

    content = repr([(passage.source, passage.text) for passage in passages]) + encoder.fingerprint()
    folder = indexes / hashlib.sha256(content.encode()).hexdigest()[:12]
    if folder.is_dir():
        try:
            index = Index.load(folder, encoder)
            say(f"   The index of the last start is there: {folder}")
        except (EchoError, ImportError) as error:
            say(f"   The index of the last start cannot be read ({error}); it is made again.")
        else:
            return index, folder
    index = Index.build(passages, encoder, show_progress=progress(len(passages)))
    try:
        index.save(folder)
    except (EchoError, OSError) as error:
        say(f"   The index cannot be kept for the next start ({error}); give another place: --indexes FOLDER")
        return index, None
    say(f"   Kept for the next start in {folder}")
    return index, folder


def progress(total: int) -> Callable[[int], None]:
    """A function that is told of each batch, and prints a line every five seconds."""
    done, started, said = 0, time.monotonic(), time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, said
        if not count:
            return  # no text was there twice
        done += count
        now = time.monotonic()
        if done == total:
            say(f"   {done:,} of {total:,} docstrings in {now - started:.0f} seconds")
        elif now - said >= 5:
            said = now
            left = (now - started) / done * (total - done)
            say(f"   {done:,} of {total:,} docstrings, about {left:.0f} seconds left")

    return advance


def bm25(passages: list[Passage]) -> Callable[[str], list[int]] | None:
    """A search by words alone, which gives the numbers of the passages; ``None`` if bm25s is not installed."""
    try:
        import bm25s
    except ImportError:
        return None
    quiet: dict[str, Any] = {"show_progress": False}
    words = {"stopwords": "en"} | quiet
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize([passage.text for passage in passages], **words), **quiet)

    def search(question: str) -> list[int]:
        found, scores = retriever.retrieve(bm25s.tokenize(question, **words), k=3, **quiet)
        return [int(number) for number, score in zip(found[0], scores[0], strict=True) if score > 0]

    return search


def line(source: str, text: str) -> str:
    """An answer in one line: where it stands, and how its text begins."""
    body = " ".join(text.split(": ", 1)[-1].split())
    return f"{source}: {body}"[:100]


def answer(hits: list[Hit], words: list[str] | None) -> None:
    """Print what both found."""
    say("   echo-embeddings")
    for hit in hits:
        say(f"     {hit.score:.2f}  {line(hit.source, hit.passage)}")
    if words is not None:
        say("   BM25, words alone")
        for found in words or ["nothing: no docstring has such a word"]:
            say(f"           {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=5000, help="index at most this many docstrings")
    parser.add_argument("--indexes", type=Path, help="where the index is kept (default: your cache folder)")
    arguments = parser.parse_args()

    say("1. The model: SmolLM2, 135 million parameters.")
    say("   At the first start it is fetched (93 MB) and converted, in about a minute; 270 MB are kept.")
    started = time.monotonic()
    with signs_of_life("Still loading"):
        from echo_embeddings import EchoEncoder
        from echo_embeddings.user_cache import folder as user_cache

        encoder = EchoEncoder(on_truncate="ignore")
        _ = encoder.dimension
    say(f"   Loaded in {time.monotonic() - started:.0f} seconds.")

    passages = documentation(arguments.passages)
    say(f"2. The texts: {len(passages):,} docstrings from Python's standard library, each read twice by the model.")
    index, folder = kept(arguments.indexes or user_cache() / "demo", passages, encoder)

    by_words = bm25(passages)
    say("3. The questions. BM25 finds words, and only those; the default finds meaning and words.")
    if by_words is None:
        say("   (For BM25's answers beside: pip install bm25s)")
    for question, shows in QUESTIONS.items():
        say(f"\n“{question}” ({shows})")
        found = None
        if by_words is not None:
            found = [line(passages[i].source, passages[i].text) for i in by_words(question)]
        answer(index.search(question, 3), found)

    say("\nWhat to try next (after: source .venv/bin/activate)")
    for command, what in (
        *([(f'echo-embeddings search {folder} "your question"', "ask this index more")] if folder else []),
        ("echo-embeddings index FOLDER my.index", "index your own notes, documents or code"),
        ("echo-embeddings compare PAIRS.tsv", "measure on your own data: six questions prove little"),
        ("python examples/quickstart.py", "the same from Python, in three lines"),
    ):
        say(f"   {command}\n       {what}")


def run() -> int:
    """Run :func:`main`; what goes wrong is one line. Gives the status to exit with."""
    try:
        main()
    except KeyboardInterrupt:
        say("\nStopped. To go on: make demo")
        return 130
    except (OSError, ImportError) as error:  # such as no built-in model, no FAISS, no space
        say(f"\nThe demo cannot go on: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run())
