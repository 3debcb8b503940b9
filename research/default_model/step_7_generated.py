"""Short texts and passages written by the built-in model itself: what the training data has few of.

    python -m research.default_model.step_7_generated recipes/sampled.jsonl --part 0.001

Captions, headlines, statements, questions, remarks and requests, each drawn after some examples of ours, and passages
that go on from statements. What they say is often wrong, which does not matter: a student learns where such texts stand
in its teacher's space, not what is true. Some 200,000 texts take two minutes on a GPU; ``--part`` draws fewer.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from default_texts import texts_in
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings.model import builtin


@dataclass(frozen=True)
class Kind:
    """What is drawn: prompts to choose from, the most tokens of a text, and how many."""

    name: str
    prompts: list[str]
    tokens: int
    count: int


PASSAGES, PASSAGE_TOKENS = 30000, 110
_BULLET = re.compile(r"^[-*•\s\d.)]+")


def prompts() -> tuple[list[Kind], list[str], str]:
    """The kinds of short texts, what stands before a statement that goes on, and how a question is asked for."""
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return [Kind(**kind) for kind in content["kinds"]], content["openings"], content["ask"]


class Writer:
    """The built-in model, writing many texts at once."""

    def __init__(self) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.at_once = 4096 if self.device == "cuda" else 32
        self.tokenizer: Any = AutoTokenizer.from_pretrained(builtin.folder(), padding_side="left")
        self.tokenizer.pad_token = self.tokenizer.eos_token
        model = AutoModelForCausalLM.from_pretrained(builtin.folder(), dtype=torch.bfloat16)
        self.model: Any = model.eval().to(self.device)

    @torch.inference_mode()
    def __call__(self, prompts: list[str], tokens: int) -> list[str]:
        """What follows each prompt, as many tokens at most."""
        batch = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(self.device)
        ids = self.model.generate(**batch, max_new_tokens=tokens, do_sample=True, temperature=0.9, top_p=0.95, top_k=0)
        new = ids[:, batch["input_ids"].shape[1] :]
        found: list[str] = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return found


def short(write: Writer, kind: Kind, part: float, rng: random.Random) -> Iterator[str]:
    """Distinct texts of a kind: the line that follows the prompt, where it came to an end."""
    wanted = max(1, int(kind.count * part))
    seen: set[str] = set()
    for _ in range(-(-wanted // write.at_once)):
        prompt = rng.choice(kind.prompts)
        for text in write([prompt] * min(write.at_once, wanted), kind.tokens):
            line, ended, _ = text.strip().partition("\n")
            line = " ".join(_BULLET.sub("", line).split())
            if (ended or line.endswith((".", "?", "!"))) and 12 <= len(line) <= 300 and line not in seen:
                seen.add(line)
                yield line


def passages(write: Writer, beginnings: list[str], openings: list[str], rng: random.Random) -> Iterator[str]:
    """What the model writes after each beginning, which is part of it, up to the last full stop."""
    some = write.at_once // 2
    for start in range(0, len(beginnings), some):
        batch = sorted(beginnings[start : start + some], key=len)
        found = write([rng.choice(openings) + beginning for beginning in batch], PASSAGE_TOKENS)
        for beginning, text in zip(batch, found, strict=True):
            whole = " ".join(f"{beginning}{text}".split("\n\n\n")[0].split())
            whole = whole[: whole.rfind(".") + 1]
            if len(whole) > 160:
                yield whole


def asked(write: Writer, texts: list[str], ask: str) -> Iterator[str]:
    """What the model asks about each text."""
    some = write.at_once // 4
    texts = sorted(texts, key=len)
    for start in range(0, len(texts), some):
        for text in write([ask.format(text) for text in texts[start : start + some]], 22):
            question, mark, _ = text.strip().split("\n")[0].partition("?")
            if mark and 12 < len(question) < 160:
                yield question + mark


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--part", type=float, default=1.0, help="of the usual number of texts")
    parser.add_argument("--ask-about", type=Path, help="a file of texts; questions about passages in it are written")
    parser.add_argument("--questions", type=int, default=30000)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(0)  # noqa: S311 - no secret
    kinds, openings, ask = prompts()
    started, write, statements = time.time(), Writer(), list[str]()

    def keep(kind: str, texts: Iterator[str]) -> list[str]:
        kept = list(texts)
        with arguments.output.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"kind": kind, "text": text}) + "\n" for text in kept)
        print(f"{time.time() - started:5.0f} s: {len(kept)} of {kind}", flush=True)
        return kept

    arguments.output.write_text("", encoding="utf-8")
    for kind in kinds:
        kept = keep(kind.name, short(write, kind, arguments.part, rng))
        statements += kept if kind.name in ("statement", "headline") else []
    rng.shuffle(statements)
    written = keep("passage", passages(write, statements[: int(PASSAGES * arguments.part)], openings, rng))
    about = [text for text in written if len(text) < 620]
    if arguments.ask_about is not None:
        about += [text for text in texts_in(arguments.ask_about) if 160 < len(text) < 620]
    rng.shuffle(about)
    keep("asked", asked(write, about[: int(arguments.questions * arguments.part)], ask))


if __name__ == "__main__":
    main()
