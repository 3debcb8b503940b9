"""Step 4: draw passages, and what somebody might ask to find them: the texts of the third run.

    python -m research.default_model.step_4_passages DATA passages.jsonl
    python -m research.default_model.step_4_passages DATA fresh.jsonl --fresh passages.jsonl

DATA is as in step 1, and the same sources are left out. Each passage comes with its title, question or summary if the
data has one (some titles are worded as a request) and with one of its sentences. About some of them the built-in model
asks a question; it need not be a good one, it shall only look like a question. All of these are written as texts of
their own: the loss ``rank`` learns from the teacher which of them are near to each other.

``--fresh FILE`` draws passages that FILE does not have, and more of them. Some requests are in lower case then, some
are long, and questions are asked about one or two sentences, which is faster than about a whole passage. Two
experiments were made with these texts (research/experiments/rank_more_passages.yaml and all_layers.yaml).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from . import everyday
from .texts import SENTENCE_END, draw, rows, sentences, texts_in, write
from .writer import Prompts, Writer, question_in

__all__ = ["Amounts", "main", "passages"]

#: Characters of the longest passage.
LONGEST = 620
REQUESTS = (
    "I am interested in {}",
    "papers about {}",
    "What is known about {}?",
    "Find work on {}",
    "information on {}, please",
    "How does one approach {}?",
    "I would like articles on {}",
)
BEGINNINGS = (
    *("What", "Who", "When", "Where", "How many", "Which", "Why", "How", "In what", "What is the name of"),
    *("What did", "What type of", "According to whom"),
)
#: Passages that the built-in model is asked about at once, and the most tokens of a question after its beginning.
ASKED_AT_ONCE, QUESTION_TOKENS = 64, 18

Passage = tuple[str, str, list[str]]  # kind, text, what is asked


@dataclass(frozen=True)
class Amounts:
    """The number of passages of each kind, of everyday sentences, and of texts that a question is asked about."""

    papers: int = 5000
    summarised: int = 1500
    medicine: int = 2500
    manuals: int = 1200
    books: int = 2500
    news: int = 2000
    everyday: int = 6000
    questions: int = 4500


FRESH = Amounts(papers=9000, medicine=4500, manuals=600, books=4500, news=3000, everyday=9000, questions=5400)


def passages(data: Path, amounts: Amounts, rng: random.Random, known: set[str]) -> list[Passage]:
    """Draw passages of all kinds that are not in ``known``, each once, in random order."""
    kept: dict[str, Passage] = {}
    for kind, text, asked in sources(data, amounts, rng, known):
        parts = sentences(text, longer_than=30)
        views = [asked.strip()] if len(asked.strip()) >= 8 else []
        if len(parts) >= 2:
            views.append(rng.choice(parts[1:]) if len(parts) > 2 else parts[1])
        if known:
            views = reworded(views, rng)
        if len(text) > 100:
            kept.setdefault(text, (kind, text, [view for view in views if view != text]))
    return draw(kept.values(), len(kept), rng)


def sources(data: Path, amounts: Amounts, rng: random.Random, known: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the text, and what is asked for it (empty where the data does not say)."""

    def fresh(found: Iterable[tuple[str, str]], count: int) -> list[tuple[str, str]]:
        """Draw shortened texts that are not known, and what is asked for them."""
        shortened = ((beginning(whole), asked) for whole, asked in found)
        return draw((pair for pair in shortened if pair[0] not in known), count, rng)

    def pairs(name: str) -> list[tuple[str, str]]:
        return [(row["positive"], row["anchor"]) for row in rows(data, f"pairs/{name}")]

    for text, title in fresh(pairs("papers_title_abstract"), amounts.papers):
        yield "paper", text, request(title, rng) if rng.random() < 0.3 else title
    for text, summary in fresh(pairs("papers_tldr_abstract"), amounts.summarised):
        yield "summarised paper", text, summary
    for text, question in fresh(pairs("medquad_qa_hardneg"), amounts.medicine):
        yield "medicine", text, question
    for text, heading in fresh(filter(readable, pairs("cppdocs_heading_section")), amounts.manuals):
        yield "manual", text, heading
    books = [(row["text"], "") for row in rows(data, "text/gutenberg_paragraphs") if len(row["text"]) > 200]
    for text, nothing in fresh(books, amounts.books):
        yield "book", text, nothing
    news = [row["text"] for row in rows(data, "text/nltk_abc")]
    for text, nothing in fresh(((" ".join(news[i : i + 3]), "") for i in range(len(news) - 3)), amounts.news):
        yield "news", text, nothing


def readable(pair: tuple[str, str]) -> bool:
    """Whether a section of documentation is long enough and not a table."""
    return len(pair[0]) > 200 and "&emsp" not in pair[0]


def reworded(views: list[str], rng: random.Random) -> list[str]:
    """Put some into lower case without the mark at the end, as people type them; join some to one long request."""
    chance = rng.random()
    if chance < 0.15:
        return [view.lower().rstrip(" ?.") for view in views]
    if chance < 0.3 and len(views) == 2:
        return [f"{views[0].rstrip('.')}. {views[1]}"]
    return views


def beginning(text: str) -> str:
    """At most 620 characters from the beginning of a text, up to the end of a sentence if there is one."""
    text = " ".join(text.split())
    if len(text) <= LONGEST:
        return text
    ends = [end.start() for end in SENTENCE_END.finditer(text) if end.start() <= LONGEST]
    return text[: ends[-1]].strip() if ends and ends[-1] > 150 else text[:LONGEST].rsplit(" ", 1)[0]


def request(title: str, rng: random.Random) -> str:
    """Word a title as a request."""
    title = title.rstrip(".")
    return rng.choice(REQUESTS).format(title if title[:2].isupper() else title[0].lower() + title[1:])


def questions(texts: list[str], rng: random.Random) -> list[str]:
    """Let the built-in model ask about each text. Not all that it writes is a question, so the result is shorter."""
    torch.manual_seed(0)
    ask, writer = Prompts.load().ask, Writer(temperature=0.6, top_p=0.9)
    texts = sorted(texts, key=len)
    asked: dict[str, None] = {}
    for start in range(0, len(texts), ASKED_AT_ONCE):
        batch = texts[start : start + ASKED_AT_ONCE]
        words = [rng.choice(BEGINNINGS) for _ in batch]
        prompts = [f"{ask.format(text)} {first}" for text, first in zip(batch, words, strict=True)]
        for first, rest in zip(words, writer(prompts, QUESTION_TOKENS), strict=True):
            if question := question_in(first + rest):
                asked[question] = None
    return list(asked)


def asked_about(found: list[Passage], amounts: Amounts, rng: random.Random, *, parts: bool) -> list[str]:
    """Choose the texts that questions are asked about: passages, stories first, or with ``parts`` a piece of each."""
    stories = [text for kind, text, _ in found if kind in ("book", "news")]
    others = [text for kind, text, _ in found if kind in ("medicine", "paper")]
    if not parts:
        return (stories + others[:1600])[: amounts.questions]
    return [part for text in (stories + others)[: amounts.questions] if (part := piece(text, rng))]


def piece(text: str, rng: random.Random) -> str:
    """Draw one or two sentences of a text."""
    found = sentences(text, longer_than=30)
    start = rng.randrange(len(found)) if found else 0
    return " ".join(found[start : start + rng.choice((1, 2))])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of training data")
    parser.add_argument("output", type=Path, help="file that is written")
    parser.add_argument("--fresh", type=Path, metavar="FILE", help="an earlier output, whose texts are not taken")
    arguments = parser.parse_args(argv)
    known, amounts, seed = set[str](), Amounts(), 4
    if arguments.fresh is not None:
        known = set(texts_in(arguments.fresh))
        amounts, seed = FRESH, 7
    rng = random.Random(seed)  # noqa: S311 - no secret
    found = passages(arguments.data, amounts, rng, known)
    plain = draw(everyday.sentences(everyday.ENOUGH), None, rng)
    texts = [text for _, text, _ in found] + [view for _, _, views in found for view in views]
    texts += [text for text in plain if text not in known][: amounts.everyday]
    texts += questions(asked_about(found, amounts, rng, parts=bool(known)), random.Random(1))  # noqa: S311
    fresh = [text for text in dict.fromkeys(texts) if text not in known]
    write(arguments.output, ({"text": text} for text in fresh))
    print(f"{len(fresh)} texts in {arguments.output}")


if __name__ == "__main__":
    main()
