"""Token Prepending and its hierarchical form: below some layer, a new token before the text gets the state of its end.

**Token Prepending** (arXiv 2412.11556, ACL 2025; code fuyuchenIfyw/token_prepending): in ``This sentence : <PST> "S"
means in one word:"`` the state of ``<PST>`` is replaced, before each of the layers 1 to 6 (of 32, counted from 0), by
that of the last token. The vector is the last token's state after layer 27 of 32 (``config.yaml``, PromptEOL on
Llama-2-7B). Layers are taken here as fractions of the depth: from 1 to 7/32, read at 27/32. The authors start
``<PST>`` from random numbers and report that this changes 0.01 points; here it is the mean of the vocabulary's
embeddings, so that two runs are equal. Without layers there is nothing to copy, and no token is put in: plain
PromptEOL.

**Hierarchical** (HTP, arXiv 2511.14868; code snap-research/HTP, plan ``tp_sentence_begin``): a ``<PST>`` before each
sentence, and as many ``<B-PST>`` before all of them; before each of the same layers both get the state of the
sentence's end (the last one: of the EOS token behind the text). A BOS token stands first, as in their template. The
mean over the text's own tokens, one layer before the last, is the vector. New tokens start from the mean embedding. The
authors split sentences with spaCy; here a full stop, question mark or exclamation mark and a space end a sentence.
Queries begin with "Retrieve relevant document. Text:", as in their ``config.yaml``.

Checked against: the authors' code of HTP; of Token Prepending the evaluation code and the settings, not the model file;
and a layer-by-layer computation in ``tests/research``. The papers' numbers (Llama-2-7B: PromptEOL 70.03, with Token
Prepending 77.19 on seven STS sets) are of models that could not be run here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from echo_embeddings import EchoConfig
from echo_embeddings.forward.pooling import last_pooling, mean_pooling
from echo_embeddings.model.architecture import layers_of
from echo_embeddings.text.template import Template
from echo_embeddings.types import Role

from . import plain
from .method import Embedded, Method, Subject
from .plain import NEW, Row

__all__ = ["HierarchicalTokenPrepending", "TokenPrepending"]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
#: The layers before which states are copied: from the second one to this fraction of the depth.
_STOP = 7 / 32


@contextmanager
def copying(layers: Sequence[Any], batch: Sequence[Row]) -> Iterator[None]:
    """Before each of these layers, copy states as the rows of the batch say."""
    moves = [(i, to, origin) for i, row in enumerate(batch) for to, origin in row.copies]
    rows, to, origin = torch.tensor(moves, dtype=torch.long).reshape(-1, 3).unbind(1)

    def hook(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        states: Tensor = args[0].clone()
        states[rows, to] = args[0][rows, origin]
        return (states, *args[1:])

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(hook).remove)
        yield


def _hooked(subject: Subject, first: int, stop: int) -> Callable[[list[Row]], Any]:
    layers = layers_of(subject.body)[first:stop]
    return lambda batch: copying(layers, batch)


@dataclass(frozen=True)
class TokenPrepending(Method):
    """PromptEOL with a token before the text that is given the state of the last one.

    Args:
        stop: copy before the layers from 1 to this fraction of the depth; 0 copies nowhere.
        exit: read the last token at this fraction of the depth; ``None`` reads it after the final norm.
    """

    stop: float = _STOP
    exit: float | None = 27 / 32

    def embed(self, subject: Subject, texts: Sequence[str], role: Role) -> Embedded:
        template = EchoConfig.preset("prompt-eol").template_for(role)
        rows, stop = plain.around(subject, texts, template), round(self.stop * subject.depth)
        if stop > 1:
            # The opening quote is the last token before the text.
            quote = len(subject.echo_tokenizer.layout(template).literals[0]) - 1
            rows = [_with_token(row, quote) for row in rows]
        exit_ = None if self.exit is None else round(self.exit * subject.depth)
        return plain.embed(subject, rows, last_pooling, layers=exit_, hooked=_hooked(subject, 1, stop))

    def ends_with_norm(self, depth: int) -> bool:  # noqa: ARG002 - at any depth
        return self.exit is None


def _with_token(row: Row, place: int) -> Row:
    ids = (*row.ids[:place], NEW, *row.ids[place:])
    return Row(ids, tuple(i + 1 for i in row.pooled), ((place, len(ids) - 1),))


@dataclass(frozen=True)
class HierarchicalTokenPrepending(Method):
    """A token before each sentence, and one for each at the beginning, that are given the state of its end.

    Args:
        stop: as in :class:`TokenPrepending`.
    """

    stop: float = _STOP

    def embed(self, subject: Subject, texts: Sequence[str], role: Role) -> Embedded:
        rows = [self._row(subject, text, role) for text in texts]
        hooked = _hooked(subject, 1, round(self.stop * subject.depth))
        return plain.embed(subject, rows, mean_pooling, layers=subject.depth - 1, hooked=hooked)

    def ends_with_norm(self, depth: int) -> bool:  # noqa: ARG002 - it stops a layer before
        return False

    def _row(self, subject: Subject, text: str, role: Role) -> Row:
        prompt = "Retrieve relevant document. Text:" if role == "query" else ""
        # A BOS token where the tokenizer has one, even if it adds none by itself: the first token draws the attention
        # of all, and must not be one that is overwritten.
        template = Template(prompt + " {text}", bos=subject.tokenizer.bos_token_id is not None)
        before = list(subject.echo_tokenizer.layout(template).literals[0])
        parts = subject.echo_tokenizer.contents(_SENTENCE_END.split(text.strip()), spaced=True)
        ids = [*before, *[NEW] * len(parts)]
        pooled: list[int] = []
        places: list[int] = []
        for part in parts:
            places.append(len(ids))
            ids.append(NEW)
            pooled += range(len(ids), len(ids) + len(part.ids))
            ids += part.ids.tolist()
        ends = [place - 1 for place in places[1:]] + [len(ids)]
        ids.append(_end(subject))
        moves = list(zip(places, ends, strict=True))
        moves += [(len(before) + number, end) for number, end in enumerate(ends)]
        return Row(tuple(ids), tuple(pooled), tuple(moves))


def _end(subject: Subject) -> int:
    found: int | None = subject.tokenizer.eos_token_id
    return 0 if found is None else found
