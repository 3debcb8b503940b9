"""Passages and what one might ask for them: the texts of ``research/default_model/step_5_rank.yaml`` and the next.

    python -m research.default_model.step_4_passages TRAIN recipes/texts-3.jsonl
    python -m research.default_model.step_4_passages TRAIN recipes/texts-4.jsonl --fresh recipes/texts-3.jsonl

TRAIN is as for default_texts.py, and so is what is left out. To each passage belong its title, question or summary
where the data has one (some titles worded as a request), one of its sentences, and for some a question that the
built-in model itself asks (the right words matter less than that it looks like a question). They are written as texts
of their own: the loss ``rank`` finds out what is near to what.

``--fresh`` takes passages that the earlier file does not have, and more of them; some requests are in lower case, some
are long, and questions are asked about a sentence or two, which is faster than about a whole passage.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import everyday
import torch
from default_texts import SENTENCE_END, rows, texts_in
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings.model import builtin

LONGEST = 620  # characters of a passage
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
ASK = """\
Passage: The old bridge over the Tarn was closed in 1952, after a barge had struck its second pier.
Question: What struck the pier of the bridge?

Passage: Mr. Hale sold the mill in 1871 to his cousin, a banker, who turned it into a school for the workers' children.
Question: Who bought the mill from Mr. Hale?

Passage: {passage}
Question: {beginning}"""

Passage = tuple[str, str, list[str]]  # kind, text, what is asked
Item = TypeVar("Item")


@dataclass(frozen=True)
class Amounts:
    """How many passages of each kind, sentences of the grammar, and texts that the built-in model is asked about."""

    papers: int = 5000
    summarised: int = 1500
    medicine: int = 2500
    manuals: int = 1200
    books: int = 2500
    news: int = 2000
    everyday: int = 6000
    questions: int = 4500


FRESH = Amounts(papers=9000, medicine=4500, manuals=600, books=4500, news=3000, everyday=9000, questions=5400)


def passages(train: Path, amounts: Amounts, rng: random.Random, known: set[str]) -> list[Passage]:
    """Passages of all kinds that are not ``known``, each once, in random order."""
    kept: dict[str, Passage] = {}
    for kind, text, asked in sources(train, amounts, rng, known):
        sentences = sentences_of(text)
        views = [asked.strip()] if len(asked.strip()) >= 8 else []
        if len(sentences) >= 2:
            views.append(rng.choice(sentences[1:]) if len(sentences) > 2 else sentences[1])
        if known:
            views = reworded(views, rng)
        if len(text) > 100:
            kept.setdefault(text, (kind, text, [view for view in views if view != text]))
    return draw(kept.values(), len(kept), rng)


def sources(train: Path, amounts: Amounts, rng: random.Random, known: set[str]) -> Iterator[tuple[str, str, str]]:
    """Kind, text and what is asked for it, where the data says so."""

    def fresh(found: Iterable[tuple[str, str]], count: int) -> list[tuple[str, str]]:
        """Texts, cut, and what is asked for them."""
        return draw([pair for whole, asked in found if (pair := (cut(whole), asked))[0] not in known], count, rng)

    def pairs(name: str) -> list[tuple[str, str]]:
        return [(row["positive"], row["anchor"]) for row in rows(train, f"pairs/{name}")]

    for text, title in fresh(pairs("papers_title_abstract"), amounts.papers):
        yield "paper", text, request(title, rng) if rng.random() < 0.3 else title
    for text, summary in fresh(pairs("papers_tldr_abstract"), amounts.summarised):
        yield "summarised paper", text, summary
    for text, question in fresh(pairs("medquad_qa_hardneg"), amounts.medicine):
        yield "medicine", text, question
    for text, heading in fresh(filter(readable, pairs("cppdocs_heading_section")), amounts.manuals):
        yield "manual", text, heading
    books = [(row["text"], "") for row in rows(train, "text/gutenberg_paragraphs") if len(row["text"]) > 200]
    for text, nothing in fresh(books, amounts.books):
        yield "book", text, nothing
    news = [row["text"] for row in rows(train, "text/nltk_abc")]
    for text, nothing in fresh(((" ".join(news[i : i + 3]), "") for i in range(len(news) - 3)), amounts.news):
        yield "news", text, nothing


def draw(items: Iterable[Item], count: int, rng: random.Random) -> list[Item]:
    shuffled = list(items)
    rng.shuffle(shuffled)
    return shuffled[:count]


def readable(pair: tuple[str, str]) -> bool:
    return len(pair[0]) > 200 and "&emsp" not in pair[0]


def reworded(views: list[str], rng: random.Random) -> list[str]:
    """Some in lower case and without their last mark, as they are typed; some as one long request."""
    chance = rng.random()
    if chance < 0.15:
        return [view.lower().rstrip(" ?.") for view in views]
    if chance < 0.3 and len(views) == 2:
        return [f"{views[0].rstrip('.')}. {views[1]}"]
    return views


def cut(text: str) -> str:
    """The beginning of a text, up to the end of a sentence where there is one."""
    text = " ".join(text.split())
    if len(text) <= LONGEST:
        return text
    ends = [end.start() for end in SENTENCE_END.finditer(text) if end.start() <= LONGEST]
    return text[: ends[-1]].strip() if ends and ends[-1] > 150 else text[:LONGEST].rsplit(" ", 1)[0]


def request(title: str, rng: random.Random) -> str:
    title = title.rstrip(".")
    return rng.choice(REQUESTS).format(title if title[:2].isupper() else title[0].lower() + title[1:])


@torch.inference_mode()
def questions(texts: list[str], rng: random.Random) -> list[str]:
    """What the built-in model asks about each passage; fewer than passages, because not all it writes is a question."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(builtin.folder(), padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(builtin.folder(), dtype=torch.bfloat16).eval()
    texts = sorted(texts, key=len)
    asked: dict[str, None] = {}
    for start in range(0, len(texts), 64):
        beginnings = [rng.choice(BEGINNINGS) for _ in texts[start : start + 64]]
        prompts = [
            ASK.format(passage=text, beginning=beginning)
            for text, beginning in zip(texts[start : start + 64], beginnings, strict=True)
        ]
        batch = tokenizer(prompts, return_tensors="pt", padding=True)
        ids = model.generate(**batch, max_new_tokens=18, do_sample=True, temperature=0.6, top_p=0.9)
        endings = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for beginning, ending in zip(beginnings, endings, strict=True):
            question, mark, _ = (beginning + ending).split("\n")[0].strip().partition("?")
            if mark and 12 < len(question) < 160:
                asked[question + mark] = None
    return list(asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--fresh", type=Path, metavar="FILE", help="an earlier output, whose texts are not taken")
    arguments = parser.parse_args()
    known, amounts, seed = set[str](), Amounts(), 4
    if arguments.fresh is not None:
        known = set(texts_in(arguments.fresh))
        amounts, seed = FRESH, 7
    rng = random.Random(seed)  # noqa: S311 - no secret
    found = passages(arguments.train, amounts, rng, known)
    plain = everyday.sentences(40000)
    rng.shuffle(plain)
    texts = [text for _, text, _ in found] + [view for _, _, views in found for view in views]
    texts += [text for text in plain if text not in known][: amounts.everyday]
    texts += questions(asked_about(found, amounts, rng, parts=bool(known)), random.Random(1))  # noqa: S311
    distinct = [text for text in dict.fromkeys(texts) if text not in known]
    with arguments.output.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in distinct)
    print(f"{len(distinct)} texts in {arguments.output}")


def asked_about(found: list[Passage], amounts: Amounts, rng: random.Random, *, parts: bool) -> list[str]:
    """What the built-in model is asked about: passages, stories first, or one or two sentences of each."""
    stories = [text for kind, text, _ in found if kind in ("book", "news")]
    others = [text for kind, text, _ in found if kind in ("medicine", "paper")]
    if not parts:
        return (stories + others[:1600])[: amounts.questions]
    return [part for text in (stories + others)[: amounts.questions] if (part := piece(text, rng))]


def sentences_of(text: str) -> list[str]:
    return [part.strip() for part in SENTENCE_END.split(text) if 30 < len(part) < 300]


def piece(text: str, rng: random.Random) -> str:
    """One or two sentences of a text."""
    sentences = sentences_of(text)
    start = rng.randrange(len(sentences)) if sentences else 0
    return " ".join(sentences[start : start + rng.choice((1, 2))])


if __name__ == "__main__":
    main()
