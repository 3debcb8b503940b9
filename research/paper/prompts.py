"""Draw prompts at random, as the paper's appendix D does: instruction, wording, separator, markers, case.

The paper prints 12 or 13 draws a method and the verbs, and describes the rest; the lists of words here are ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from echo_embeddings.text.template import Template

__all__ = ["INSTRUCTIONS", "METHODS", "VERBS", "draws"]

METHODS = ("classical", "echo", "PromptEOL")
#: The verbs of the paper for each method.
VERBS: dict[str, Sequence[str]] = {
    "classical": ("write", "say", "complete", "explain"),
    "echo": ("repeat", "rewrite", "rephrase", "fill in the blank"),
    "PromptEOL": ("summarize", "categorize", "understand", "analyze"),
}
#: Echo prompts that say what the second copy is. The paper has no "summarise"; it stands here to see what it does.
INSTRUCTIONS = {
    "repeat": Template("Repeat the following sentence: {text}\nThe sentence again: {text}"),
    "rephrase": Template("Rephrase the following sentence: {text}\nThe rephrased sentence: {text}"),
    "rewrite": Template("Rewrite the following sentence: {text}\nThe rewritten sentence: {text}"),
    "summarise": Template("Summarise the following sentence: {text}\nThe summary: {text}"),
}

_NOUNS = ("sentence", "paragraph", "text", "response", "query", "passage", "statement")
_ARTICLES = ("the {}", "this {}", "the following {}", "the {} below")
_SEPARATORS = (":", ",", ".", ":\n", "\n", ",\n", " -", ";")
_MARKERS = ("", "{}:", "{} -", "the {}:", "[{}]")
_AGAIN = ("{} again:", "the {} again:", "{} 2:", "the same {}:", "[{} again]")
_ONE_WORD = (
    "in one word",
    "with a single word",
    "succinctly with one word",
    "in a unique one-word way",
    "in a single word",
    "in a word",
)
_CASES: tuple[Callable[[str], str], ...] = (str.lower, str.upper, str.capitalize, str.title)


def draws(method: str, count: int, seed: int = 0) -> list[Template]:
    """Draw different prompts of one method; its verbs take turns.

    Args:
        method: one of :data:`METHODS`.
        count: how many.
        seed: another seed gives other draws.

    Raises:
        KeyError: there is no such method.
    """
    chance = random.Random(f"{method} {seed}")  # noqa: S311 - no secret
    found: dict[str, Template] = {}
    while len(found) < count:
        verb = VERBS[method][len(found) % len(VERBS[method])]
        template = _DRAW[method](verb, chance)
        found.setdefault(template.text, template)
    return list(found.values())


def _classical(verb: str, chance: random.Random) -> Template:
    noun, case = chance.choice(_NOUNS), chance.choice(_CASES)
    marker = chance.choice(_MARKERS).format(noun)
    return Template(f"{_start(verb, noun, case, chance)}{_joined(case(marker))} {{text}}")


def _echo(verb: str, chance: random.Random) -> Template:
    noun, case = chance.choice(_NOUNS), chance.choice(_CASES)
    first, again = chance.choice(_MARKERS).format(noun), chance.choice(_AGAIN).format(noun)
    between = chance.choice(_SEPARATORS)
    start = _start(verb, noun, case, chance)
    return Template(f"{start}{_joined(case(first))} {{text}}{between}{_joined(case(again))} {{text}}")


def _prompt_eol(verb: str, chance: random.Random) -> Template:
    noun, case = chance.choice(_NOUNS), chance.choice(_CASES)
    start = _start(verb, f"{noun} {chance.choice(_ONE_WORD)}", case, chance)
    quote = chance.choice(('"', ""))
    return Template(
        f"{start} {quote}{{text}}{quote}{chance.choice((' :', ':', ' =', ' ->', ' means:'))}", pool_tail=True
    )


def _start(verb: str, noun: str, case: Callable[[str], str], chance: random.Random) -> str:
    return case(f"{verb} {chance.choice(_ARTICLES).format(noun)}") + chance.choice(_SEPARATORS)


def _joined(marker: str) -> str:
    return f" {marker}" if marker else ""


_DRAW: dict[str, Callable[[str, random.Random], Template]] = {
    "classical": _classical,
    "echo": _echo,
    "PromptEOL": _prompt_eol,
}
