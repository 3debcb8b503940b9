"""Passages and what one might ask for them: the texts of ``recipes/default-3.yaml``.

    python scripts/default_passages.py TRAIN recipes/texts-3.jsonl --questions 4500

TRAIN is as for default_texts.py, and so is what is left out. To each passage belong its title, question or summary
where the data has one (some titles worded as a request), one of its sentences, and for some a question that the
built-in model itself asks (the right words matter less than that it looks like a question). They are written as texts
of their own: the loss ``rank`` finds out what is near to what.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import everyday
import torch
from default_texts import SENTENCE_END, rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings import builtin

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


def passages(train: Path, rng: random.Random) -> list[Passage]:
    """Passages of all kinds, each once, in random order."""
    kept: dict[str, Passage] = {}
    for kind, whole, asked in sources(train, rng):
        text = cut(whole)
        sentences = [part.strip() for part in SENTENCE_END.split(text) if 30 < len(part) < 300]
        views = [asked.strip()] if len(asked.strip()) >= 8 else []
        if len(sentences) >= 2:
            views.append(rng.choice(sentences[1:]) if len(sentences) > 2 else sentences[1])
        if len(text) > 100:
            kept.setdefault(text, (kind, text, [view for view in views if view != text]))
    return draw(kept.values(), len(kept), rng)


def sources(train: Path, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """Kind, text and what is asked for it, where the data says so."""
    for row in draw(rows(train, "pairs/papers_title_abstract"), 5000, rng):
        yield "paper", row["positive"], request(row["anchor"], rng) if rng.random() < 0.3 else row["anchor"]
    for row in draw(rows(train, "pairs/papers_tldr_abstract"), 1500, rng):
        yield "summarised paper", row["positive"], row["anchor"]
    for row in draw(rows(train, "pairs/medquad_qa_hardneg"), 2500, rng):
        yield "medicine", row["positive"], row["anchor"]
    for row in draw(filter(readable, rows(train, "pairs/cppdocs_heading_section")), 1200, rng):
        yield "manual", row["positive"], row["anchor"]
    books = [row["text"] for row in rows(train, "text/gutenberg_paragraphs") if len(row["text"]) > 200]
    for text in draw(books, 2500, rng):
        yield "book", text, ""
    news = [row["text"] for row in rows(train, "text/nltk_abc")]
    for i in draw(range(len(news) - 3), 2000, rng):
        yield "news", " ".join(news[i : i + 3]), ""


def draw(items: Iterable[Item], count: int, rng: random.Random) -> list[Item]:
    shuffled = list(items)
    rng.shuffle(shuffled)
    return shuffled[:count]


def readable(row: dict[str, Any]) -> bool:
    return len(row["positive"]) > 200 and "&emsp" not in row["positive"]


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
    parser.add_argument("--questions", type=int, default=4500, help="passages that the model is asked about")
    arguments = parser.parse_args()
    rng = random.Random(4)  # noqa: S311 - no secret
    found = passages(arguments.train, rng)
    plain = everyday.sentences(40000)
    rng.shuffle(plain)
    stories = [text for kind, text, _ in found if kind in ("book", "news")]
    others = [text for kind, text, _ in found if kind in ("medicine", "paper")][:1600]
    texts = [text for _, text, _ in found] + [view for _, _, views in found for view in views] + plain[:6000]
    texts += questions((stories + others)[: arguments.questions], random.Random(1))  # noqa: S311
    distinct = list(dict.fromkeys(texts))
    with arguments.output.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in distinct)
    print(f"{len(distinct)} texts in {arguments.output}")


if __name__ == "__main__":
    main()
