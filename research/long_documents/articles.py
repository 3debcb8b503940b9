"""Find the paragraph of an article that answers a question: paragraphs read alone, and read with their article.

    python -m research.long_documents.articles DEV/retrieval/squad_devA --output vectors.npz

Question: does a paragraph, or a sentence, that has seen its article (``encode_chunks``) answer better than one that was
embedded alone?

The paragraphs of an article, which stand one behind the other in the corpus, are joined to a document. So many articles
are drawn, of each its first paragraphs, and of each paragraph its first questions. A question must find its paragraph
among those of all articles, by the vector of the paragraph or by the best of its sentences. Vectors are kept in the
output. Scores are times 100; the spread is that over articles (bootstrap).
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from echo_embeddings import EchoEncoder
from echo_embeddings.types import Vectors
from echo_embeddings.vectors.normalize import unit

from .common import Kept, alone, margin, parts, spans_of_parts, spread, success

__all__ = ["Article", "articles", "main", "sentences"]

_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")


@dataclass
class Article:
    """An article: its paragraphs, and the questions to each.

    Attributes:
        title: its title.
        paragraphs: their texts.
        questions: for each paragraph its questions.
    """

    title: str
    paragraphs: list[str] = field(default_factory=list)
    questions: list[list[str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All paragraphs, with an empty line between two."""
        return "\n\n".join(self.paragraphs)

    def spans(self) -> list[tuple[int, int]]:
        """First and last-plus-one character of each paragraph."""
        return spans_of_parts(self.paragraphs, "\n\n")


def articles(folder: Path, count: int, paragraphs: int, questions: int) -> list[Article]:
    """So many articles, drawn; of each its first paragraphs, of each of these its first questions."""
    asked: dict[str, list[str]] = {}
    texts = {one["_id"]: one["text"] for one in _lines(folder / "queries.jsonl")}
    for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, paragraph, _ = line.split("\t")
        asked.setdefault(paragraph, []).append(texts[query])
    found: dict[str, Article] = {}
    for one in _lines(folder / "corpus.jsonl"):
        article = found.setdefault(one["title"], Article(one["title"]))
        if len(article.paragraphs) < paragraphs:
            article.paragraphs.append(one["text"])
            article.questions.append(asked.get(one["_id"], [])[:questions])
    names = sorted(found)
    random.Random(0).shuffle(names)  # noqa: S311 - no secret
    return [found[name] for name in sorted(names[:count])]


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sentences(text: str, start: int) -> list[tuple[int, int]]:
    """The spans of the sentences of a paragraph that begins at ``start`` in its document."""
    ends = [match.span() for match in _END.finditer(text)]
    firsts, lasts = [0, *(end for _, end in ends)], [*(start for start, _ in ends), len(text)]
    return [(start + first, start + last) for first, last in zip(firsts, lasts, strict=True)]


def embedded(keep: Kept, encoder: EchoEncoder, listed: list[Article], name: str) -> dict[str, Vectors]:
    """The vectors of the questions; of paragraphs and of sentences, alone and late; and of each paragraph's article."""
    texts = [one.text for one in listed]
    of_paragraphs = [one.spans() for one in listed]
    of_sentences = [
        [span for (start, end) in spans for span in sentences(text[start:end], start)]
        for text, spans in zip(texts, of_paragraphs, strict=True)
    ]
    asked = [question for one in listed for some in one.questions for question in some]
    paragraphs = [paragraph for one in listed for paragraph in one.paragraphs]
    titles = [one.title for one in listed for _ in one.paragraphs]
    short = [text[a:b] for text, spans in zip(texts, of_sentences, strict=True) for a, b in spans]

    def late() -> Vectors:
        every = [[*a, *b, (0, len(text))] for a, b, text in zip(of_paragraphs, of_sentences, texts, strict=True)]
        found = encoder.encode_chunks(texts, every)
        counts = [len(spans) for spans in of_paragraphs]
        pieces = [
            [rows[:count] for rows, count in zip(found, counts, strict=True)],
            [rows[count:-1] for rows, count in zip(found, counts, strict=True)],
            [np.repeat(rows[-1:], count, axis=0) for rows, count in zip(found, counts, strict=True)],
        ]
        return np.concatenate([rows for of_kind in pieces for rows in of_kind])

    made = {
        "queries": keep(f"{name} queries", lambda: encoder.encode_queries(asked)),
        "paragraphs": keep(f"{name} paragraphs", lambda: alone(encoder, paragraphs)),
    }
    rows = keep(f"{name} late", late)
    count = len(paragraphs)
    made |= {"late paragraphs": rows[:count], "late sentences": rows[count:-count], "articles": rows[-count:]}
    made["sentences"] = keep(f"{name} sentences", lambda: alone(encoder, short))
    titled = [f"{title}\n\n{text}" for title, text in zip(titles, paragraphs, strict=True)]
    made["titled"] = keep(f"{name} titled", lambda: alone(encoder, titled))
    return made


def best_of(scores: Vectors, counts: list[int]) -> Vectors:
    """The best score of each run of columns: ``[questions, runs]``."""
    firsts = np.cumsum([0, *counts])[:-1]
    return np.maximum.reduceat(scores, firsts, axis=1)


def ways(encoder: EchoEncoder, vectors: Mapping[str, Vectors], counts: list[int]) -> dict[str, Vectors]:
    """For each way the scores ``[questions, paragraphs]``; ``counts`` are the sentences of each paragraph."""
    query = vectors["queries"]
    plain, late, whole, titled = (vectors[name] for name in ("paragraphs", "late paragraphs", "articles", "titled"))
    of_sentences = np.repeat(whole, counts, axis=0)
    found = {
        "paragraphs alone": query @ plain.T,
        "with the title": query @ titled.T,
        "late paragraphs": query @ late.T,
        "alone + 0.5 article": query @ unit(plain + 0.5 * whole).T,
        "alone + article": query @ unit(plain + whole).T,
        "late + alone": query @ unit(late + plain).T,
        "late + with the title": query @ unit(late + titled).T,
        "best sentence alone": best_of(query @ vectors["sentences"].T, counts),
        "best late sentence": best_of(query @ vectors["late sentences"].T, counts),
        "best of late + alone": best_of(query @ unit(vectors["late sentences"] + vectors["sentences"]).T, counts),
        "best of alone + 0.5 article": best_of(query @ unit(vectors["sentences"] + 0.5 * of_sentences).T, counts),
        "best of late + 0.5 article": best_of(query @ unit(vectors["late sentences"] + 0.5 * of_sentences).T, counts),
        "best of late + article": best_of(query @ unit(vectors["late sentences"] + of_sentences).T, counts),
    }
    lexical = encoder.config.lexical
    if lexical is not None:
        of = {name: parts(encoder, rows)[0] for name, rows in vectors.items()}
        said = {name: parts(encoder, vectors[name])[1] for name in ("queries", "articles")}
        weight = lexical.weight("document") * lexical.weight("query")
        beside = np.repeat(weight * said["queries"] @ said["articles"].T, counts, axis=1)
        words_of_article = best_of(of["queries"] @ of["late sentences"].T + beside, counts)
        found["best late sentence, words of the article"] = words_of_article
        found["paragraphs alone, without words"] = of["queries"] @ of["paragraphs"].T
        found["late paragraphs, without words"] = of["queries"] @ of["late paragraphs"].T
        found["best sentence alone, without words"] = best_of(of["queries"] @ of["sentences"].T, counts)
        found["best late sentence, without words"] = best_of(of["queries"] @ of["late sentences"].T, counts)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder in the layout of BEIR whose titles are those of articles")
    parser.add_argument("--output", type=Path, required=True, help="a .npz file that keeps the vectors")
    parser.add_argument("--model", help="a hub id, a folder or a .gguf file (default: the built-in model)")
    parser.add_argument("--config", help="a preset (default: the model's)")
    parser.add_argument("--articles", type=int, default=12, help="(%(default)s)")
    parser.add_argument("--paragraphs", type=int, default=8, help="of each article (%(default)s)")
    parser.add_argument("--questions", type=int, default=3, help="of each paragraph (%(default)s)")
    arguments = parser.parse_args(argv)
    listed = articles(arguments.data, arguments.articles, arguments.paragraphs, arguments.questions)
    encoder = EchoEncoder(arguments.model, arguments.config)
    vectors = embedded(Kept(arguments.output), encoder, listed, f"{encoder.model_name} {arguments.config or 'default'}")
    of_each = [len(some) for one in listed for some in one.questions]
    right = np.repeat(np.arange(len(of_each)), of_each).tolist()
    groups = np.repeat(np.arange(len(listed)), [sum(map(len, one.questions)) for one in listed]).tolist()
    counts = [len(sentences(text, 0)) for one in listed for text in one.paragraphs]
    print(f"\n{len(right)} questions, {len(counts)} paragraphs of {len(listed)} articles, {sum(counts)} sentences\n")
    print("| way | accuracy@1 | nDCG@10 | against paragraphs alone | against sentences alone | MRR |")
    print("| --- |" + " --: |" * 5)
    found = {name: success(table, right) for name, table in ways(encoder, vectors, counts).items()}
    for name, one in found.items():
        gain = one["nDCG@10"]
        others = [margin(gain, found[base]["nDCG@10"], groups) for base in ("paragraphs alone", "best sentence alone")]
        shown = f"{100 * gain.mean():.1f} ± {100 * spread(gain, groups):.1f} | {' | '.join(others)}"
        print(f"| {name} | {100 * one['accuracy@1'].mean():.1f} | {shown} | {100 * one['MRR'].mean():.1f} |")


if __name__ == "__main__":
    main()
