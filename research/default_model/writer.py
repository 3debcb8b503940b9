"""The built-in model as a writer of texts: it continues many prompts at once (writer.yaml holds the prompts)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings.model import builtin
from echo_embeddings.model.device import pick_dtype

__all__ = ["Kind", "Prompts", "Writer", "question_in"]


@dataclass(frozen=True)
class Kind:
    """A kind of short texts.

    Attributes:
        name: of the kind.
        prompts: of which one is drawn for each batch.
        tokens: the most that a text has.
        count: how many texts are written.
    """

    name: str
    prompts: list[str]
    tokens: int
    count: int


@dataclass(frozen=True)
class Prompts:
    """What stands in writer.yaml.

    Attributes:
        kinds: of short texts.
        openings: of which one is put before a statement that the model shall continue.
        ask: a prompt with ``{}`` for a passage; a question about it follows.
    """

    kinds: list[Kind]
    openings: list[str]
    ask: str

    @classmethod
    def load(cls) -> Prompts:
        """Read the file."""
        content = yaml.safe_load(Path(__file__).with_name("writer.yaml").read_text(encoding="utf-8"))
        return cls([Kind(**kind) for kind in content["kinds"]], content["openings"], content["ask"])


class Writer:
    """The built-in model on a GPU if there is one; in bfloat16, or float32 where that is faster.

    Args:
        sampling: how the next token is drawn: ``temperature``, ``top_p`` and other options of ``generate``.

    Attributes:
        at_once: prompts that fit into one batch, if they are short.
    """

    def __init__(self, **sampling: float) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.at_once = 4096 if self.device == "cuda" else 32
        self._sampling = sampling
        self._tokenizer: Any = AutoTokenizer.from_pretrained(builtin.folder(), padding_side="left")
        self._tokenizer.pad_token = self._tokenizer.eos_token
        model = AutoModelForCausalLM.from_pretrained(builtin.folder(), dtype=pick_dtype("auto", self.device))
        self._model: Any = model.eval().to(self.device)

    @torch.inference_mode()
    def __call__(self, prompts: list[str], tokens: int) -> list[str]:
        """Write what follows each prompt, at most ``tokens`` tokens."""
        batch = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(self.device)
        ids = self._model.generate(**batch, max_new_tokens=tokens, do_sample=True, **self._sampling)
        new = ids[:, batch["input_ids"].shape[1] :]
        found: list[str] = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return found


def question_in(text: str) -> str | None:
    """The question in the first line of a text; ``None`` if there is none, or it is very short or long."""
    question, mark, _ = text.strip().split("\n")[0].partition("?")
    return question + mark if mark and 12 < len(question) < 160 else None
