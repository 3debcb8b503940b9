"""Everyday sentences from a small grammar: what is in a picture, what is in the news, what people ask and say.

The training data has books, manuals, papers and medicine, but few plain short sentences, and the captions in it may not
be used for a released model (docs/default-model.md). Distillation needs texts and no labels, so made-up sentences do.
Words and patterns (everyday.yaml) belong to this project and have its licence.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

__all__ = ["ENOUGH", "sentences"]

#: The size of the set that later steps draw from; the same number gives the same sentences.
ENOUGH = 40000
#: The kinds of sentences, and the share of each.
SHARES = {"pictures": 0.66, "news": 0.17, "talk": 0.17}


def sentences(count: int, seed: int = 0) -> list[str]:
    """Make ``count`` different sentences (or one fewer, by rounding), kind after kind; the same for each ``seed``."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    words = _words()
    found: dict[str, None] = {}
    for kind, make in {"pictures": _picture, "news": _news, "talk": _talk}.items():
        wanted = len(found) + round(count * SHARES[kind])
        while len(found) < wanted:
            found[make(words, rng)] = None
    return list(found)[:count]


def _words() -> dict[str, list[str]]:
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return {name: part if isinstance(part, list) else part.split(", ") for name, part in content.items()}


def _picture(words: dict[str, list[str]], rng: random.Random) -> str:
    """Describe a picture: someone does something somewhere. Some are negated, passive, or without a verb."""
    text = _thing(words, rng) if rng.random() < 0.1 else _scene(words, rng)
    return text[0].upper() + text[1:] + ("." if rng.random() < 0.6 else "")


def _scene(words: dict[str, list[str]], rng: random.Random) -> str:
    animal = rng.random() < 0.25
    who = rng.choice(words["animals" if animal else "people"])
    subject, be = _with_article(who, rng), "are" if _many(who) else "is"
    if animal:
        doing, objects = rng.choice(words["animal_actions"]).split(" | ")
        done = ""
    else:
        _, doing, done, objects = (part.strip() for part in rng.choice(words["actions"]).split("|"))
        subject += " " + rng.choice(words["looks"]) if rng.random() < 0.25 else ""
    what = rng.choice(objects.split(", "))
    where = " " + rng.choice(words["places"]) if rng.random() < 0.35 else ""
    kind = rng.random()
    if kind < 0.12:
        return f"{subject} {doing} {what}{where}"
    if kind < 0.24 and done and not what.startswith(("on ", "in ", "his ", "her ")):
        plural = what.endswith("s") and not what.startswith(("a ", "an ", "the "))
        return f"{what} {'are' if plural else 'is'} being {done} by {subject}{where}"
    if kind < 0.31:
        return f"there {be} no {who.removeprefix('two ').removeprefix('three ')} {doing} {what}{where}"
    if kind < 0.37:
        return f"{subject} {be} not {doing} {what}{where}"
    if kind < 0.46:
        other = rng.choice(words["animals" if rng.random() < 0.3 else "people"])
        beside = f"{_with_article(other, rng)} {'are' if _many(other) else 'is'} {rng.choice(['nearby', 'watching'])}"
        return f"{subject} {be} {doing} {what} and {beside}"
    return f"{subject} {be} {doing} {what}{where}"


def _thing(words: dict[str, list[str]], rng: random.Random) -> str:
    name, state = rng.choice(words["things"]).split(" / ")
    start = rng.choice(["a", "there is a", "a picture of a", "the"])
    return f"{start} {name} {state}" + (" " + rng.choice(words["places"]) if rng.random() < 0.2 else "")


def _many(who: str) -> bool:
    return who.startswith(("two", "three", "several"))


def _with_article(who: str, rng: random.Random) -> str:
    if _many(who):
        return who
    return f"the {who}" if rng.random() < 0.2 else f"{'an' if who[0] in 'aeiou' else 'a'} {who}"


def _news(words: dict[str, list[str]], rng: random.Random) -> str:
    first, second = rng.sample(words["nations"], 2)
    if rng.random() < 0.6:
        return rng.choice(words["events"]).format(c=first, d=second, n=rng.choice(words["counts"]))
    return rng.choice(words["business"]).format(
        s=rng.choice(words["firms"]),
        m=rng.choice(["rose", "fell", "jumped", "dropped", "gained", "slipped"]),
        p=rng.randint(1, 40),
        q=f"{rng.uniform(1, 60):.2f}",
        r=f"{rng.uniform(1, 60):.2f}",
        n=rng.randint(2, 90),
        k=rng.choice(["first", "second", "third", "fourth"]),
        w=rng.choice(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]),
    )


def _talk(words: dict[str, list[str]], rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(words["ask"]).format(t=rng.choice(words["tasks"]))
    if kind < 0.75:
        first, second = rng.sample(words["nations"], 2)
        fact = rng.choice(words["facts"]).format(c=first, d=second)
        return rng.choice(words["wonder"]).format(f=fact, y=rng.randint(1900, 2020))
    text = rng.choice(words["say"]).format(x=rng.choice(words["topics"]))
    return text[0].upper() + text[1:]
