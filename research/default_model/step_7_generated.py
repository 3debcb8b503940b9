"""Step 7: let the built-in model write texts of kinds that the training data has few of.

    python -m research.default_model.step_7_generated generated.jsonl --ask-about passages.jsonl

It writes captions, headlines, statements, questions, remarks and requests, each after some examples of ours
(writer.yaml); passages that continue statements; and questions about passages. What they say is often wrong. That does
not matter: the student learns where the teacher places such texts, not what is true. On a GPU some 250,000 texts take a
few minutes; ``--part 0.001`` writes fewer.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from .texts import texts_in, write
from .writer import Kind, Prompts, Writer, question_in

__all__ = ["main"]

#: How many passages are begun, and the most tokens of each and of a question.
PASSAGES, PASSAGE_TOKENS, QUESTION_TOKENS = 30000, 110, 22
#: Characters of the shortest and the longest passage that a question is asked about.
SHORTEST, LONGEST = 160, 620
_BULLET = re.compile(r"^[-*•\s\d.)]+")


def short_texts(writer: Writer, kind: Kind, part: float, rng: random.Random) -> Iterator[str]:
    """Write different texts of a kind: the first line after the prompt, if it is complete."""
    wanted = max(1, int(kind.count * part))
    seen: set[str] = set()
    for _ in range(-(-wanted // writer.at_once)):
        prompt = rng.choice(kind.prompts)
        for text in writer([prompt] * min(writer.at_once, wanted), kind.tokens):
            line, ended, _ = text.strip().partition("\n")
            line = " ".join(_BULLET.sub("", line).split())
            if (ended or line.endswith((".", "?", "!"))) and 12 <= len(line) <= 300 and line not in seen:
                seen.add(line)
                yield line


def passages(writer: Writer, beginnings: list[str], openings: list[str], rng: random.Random) -> Iterator[str]:
    """Continue each beginning, and keep it all up to the last full stop."""
    some = writer.at_once // 2
    for start in range(0, len(beginnings), some):
        batch = sorted(beginnings[start : start + some], key=len)
        found = writer([rng.choice(openings) + beginning for beginning in batch], PASSAGE_TOKENS)
        for beginning, text in zip(batch, found, strict=True):
            whole = " ".join(f"{beginning}{text}".split("\n\n\n")[0].split())
            whole = whole[: whole.rfind(".") + 1]
            if len(whole) > SHORTEST:
                yield whole


def questions(writer: Writer, texts: list[str], ask: str) -> Iterator[str]:
    """Ask about each text; not every one gives a question."""
    some = writer.at_once // 4
    texts = sorted(texts, key=len)
    for start in range(0, len(texts), some):
        for text in writer([ask.format(text) for text in texts[start : start + some]], QUESTION_TOKENS):
            if question := question_in(text):
                yield question


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="file that is written")
    parser.add_argument("--part", type=float, default=1.0, help="how much of the usual number of texts (1.0)")
    parser.add_argument("--ask-about", type=Path, metavar="FILE", help="texts; questions about passages are asked")
    parser.add_argument("--questions", type=int, default=30000, help="passages that are asked about (30000)")
    arguments = parser.parse_args(argv)
    torch.manual_seed(0)
    rng = random.Random(0)  # noqa: S311 - no secret
    prompts, started = Prompts.load(), time.time()
    writer = Writer(temperature=0.9, top_p=0.95, top_k=0)
    kept: list[dict[str, str]] = []

    def keep(kind: str, texts: Iterable[str]) -> list[str]:
        found = list(texts)
        kept.extend({"kind": kind, "text": text} for text in found)
        print(f"{time.time() - started:5.0f} s: {len(found)} of {kind}", flush=True)
        return found

    statements: list[str] = []
    for kind in prompts.kinds:
        found = keep(kind.name, short_texts(writer, kind, arguments.part, rng))
        statements += found if kind.name in ("statement", "headline") else []
    rng.shuffle(statements)
    begun = statements[: int(PASSAGES * arguments.part)]
    about = [text for text in keep("passage", passages(writer, begun, prompts.openings, rng)) if len(text) < LONGEST]
    if arguments.ask_about is not None:
        about += [text for text in texts_in(arguments.ask_about) if SHORTEST < len(text) < LONGEST]
    rng.shuffle(about)
    keep("asked", questions(writer, about[: int(arguments.questions * arguments.part)], prompts.ask))
    write(arguments.output, kept)


if __name__ == "__main__":
    main()
