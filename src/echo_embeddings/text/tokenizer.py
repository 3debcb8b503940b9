"""From a template and a tokenizer to token ids and where each copy stands. Tokenization runs no model.

A text is tokenised once and its ids are laid into the template as often as it says, so all copies are identical and
truncation cuts all of them alike. The same layout can be baked into ``tokenizer.json`` (:meth:`EchoTokenizer.baked`),
which makes any engine that reads that file an echo engine. Batches are laid out here and not by that post-processor:
it also doubles the *overflow* of a truncated text, every chunk with every chunk, which is quadratic in the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.errors import ModelError

from .template import Template

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["Content", "EchoTokenizer", "Ids", "Layout"]

Ids = NDArray[np.int64]
#: How many content tokens a text has, or each of several.
Counts = TypeVar("Counts", int, Ids)

_SURROGATE = re.compile("[\ud800-\udfff]")
# Between a newline and what follows no tokenizer in use merges, so text behind one is tokenised as a continuation.
_ANCHOR = "\n"


@dataclass(frozen=True)
class Layout:
    """A compiled template: the ids before, between and behind the copies of a text of ``n`` tokens.

    Args:
        literals: ``copies + 1`` id tuples.
        pool_tail: whether the ids behind the last copy are pooled with it.
        only_last: whether of what is pooled the last token is all that is read.
    """

    literals: tuple[tuple[int, ...], ...]
    pool_tail: bool = False
    only_last: bool = False

    @property
    def copies(self) -> int:
        """How often the text stands in the sequence."""
        return len(self.literals) - 1

    @property
    def overhead(self) -> int:
        """Tokens of the template itself."""
        return sum(map(len, self.literals))

    def without_prefix(self) -> Layout:
        """The same without the ids before the first copy."""
        return replace(self, literals=((), *self.literals[1:]))

    def total(self, n: Counts) -> Counts:
        """Tokens of the whole sequence for a text of ``n`` tokens."""
        return self.overhead + self.copies * n

    def assemble(self, content: Ids) -> Ids:
        """The whole sequence of ids for one text's ``content`` ids."""
        parts: list[Ids | tuple[int, ...]] = [self.literals[0]]
        for literal in self.literals[1:]:
            parts += [content, literal]
        return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])

    def copy(self, index: int, n: Counts) -> slice:
        """Where copy ``index`` (0 is the first, -1 the last) stands in the sequence."""
        index %= self.copies
        start = sum(map(len, self.literals[: index + 1])) + index * n
        return slice(start, start + n)

    def pooled(self, n: Counts) -> slice:
        """Which tokens are pooled: the last copy, and with ``pool_tail`` what stands behind it; or its last token."""
        last = self.copy(-1, n)
        stop = self.total(n) if self.pool_tail else last.stop
        return slice(stop - 1 if self.only_last else last.start, stop)

    def first_pass(self, n: int) -> Ids:
        """Positions of all tokens but those of the second and later copies: what late echo runs below ``start``."""
        keep = np.ones(self.total(n), dtype=bool)
        for index in range(1, self.copies):
            keep[self.copy(index, n)] = False
        return keep.nonzero()[0]

    def expansion(self, n: int) -> Ids:
        """For each position of the sequence, the index into ``first_pass`` whose hidden state it starts from."""
        source = np.empty(self.total(n), dtype=np.int64)
        first = self.first_pass(n)
        source[first] = np.arange(len(first))
        for index in range(1, self.copies):
            source[self.copy(index, n)] = source[self.copy(0, n)]
        return source


@dataclass(frozen=True)
class Content:
    """The ids of one text before it is laid into a template.

    Attributes:
        ids: ``[n]``, at most the limit, at least one.
        cut: how many tokens were cut away.
    """

    ids: Ids
    cut: int = 0


class EchoTokenizer:
    """A fast tokenizer of transformers, set up to read a text as plain text.

    Args:
        tokenizer: a ``PreTrainedTokenizerFast``; it is copied, not changed.

    Raises:
        ModelError: it has no Rust tokenizer behind it.
    """

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ModelError(
                f"{type(tokenizer).__name__} is a slow tokenizer; echo needs a fast one (a tokenizer.json). Load it "
                "with AutoTokenizer.from_pretrained(..., use_fast=True), or convert it once with transformers"
            )
        self.source = tokenizer
        self._rust: Tokenizer = Tokenizer.from_str(backend.to_str())
        self._rust.no_truncation()
        self._rust.no_padding()
        # "<|im_end|>" in a user's text is seven characters of text, not the end of a turn.
        self._rust.encode_special_tokens = True
        self._adds_space = self._isolated("a") == self._isolated(" a") or self._isolated("a") != self._continued("a")
        self._empty = self._stand_in()

    def contents(self, texts: Sequence[str], *, spaced: bool, limit: int | None = None) -> list[Content]:
        """Tokenise texts once, in one pass of the Rust tokenizer.

        Args:
            texts: any strings; lone surrogates are read as U+FFFD. An empty text is read as one token, the EOS token
                (or BOS, or id 0), so that it has a vector like any other.
            spaced: whether the template puts a space before the text.
            limit: the most content tokens to keep.
        """
        return [self._content(encoding, limit) for encoding in self._encode(texts, spaced=spaced)]

    def offsets(self, text: str, *, spaced: bool) -> Ids:
        """Where each content token stands in the text, in characters: ``[n, 2]``, uncut."""
        (encoding,) = self._encode([text], spaced=spaced, offsets=True)
        offsets = np.array(encoding.offsets or [(0, 0)], dtype=np.int64)
        return np.maximum(offsets - len(self._lead(spaced=spaced)), 0)

    def count(self, texts: Sequence[str], *, spaced: bool) -> list[int]:
        """Content tokens of each text, uncut."""
        return [max(len(encoding), 1) for encoding in self._encode(texts, spaced=spaced)]

    def layout(self, template: Template, instruction: str | None = None) -> Layout:
        """Compile a template, with the instruction baked in, for this tokenizer."""
        groups = template.literals(instruction)
        continued = self._isolated if template.isolated else self._continued
        literals = [[i for piece in groups[0] for i in self._isolated(piece)]]
        literals += [[i for piece in group for i in continued(piece)] for group in groups[1:]]
        if template.bos or (template.bos is None and self._adds_bos()):
            literals[0].insert(0, self._special("bos"))
        if template.eos:
            literals[-1].append(self._special("eos"))
        return Layout(tuple(map(tuple, literals)), pool_tail=template.pool_tail)

    def baked(self, template: Template, instruction: str | None = None, *, limit: int) -> Tokenizer:
        """A copy of the Rust tokenizer that echoes by itself (``TemplateProcessing`` with ``$A`` once a copy).

        Type id 1 marks what is pooled. Truncation cuts the content, so template and EOS survive.

        Args:
            template: what to lay the text into.
            instruction: for ``{instruction}``.
            limit: the most content tokens, as ``max_length`` of the config.
        """
        from tokenizers import Tokenizer, normalizers, processors

        layout = self.layout(template, instruction)
        baked: Tokenizer = Tokenizer.from_str(self._rust.to_str())
        if template.spaced and not self._adds_space:
            existing = [baked.normalizer] if baked.normalizer is not None else []
            baked.normalizer = normalizers.Sequence([normalizers.Prepend(" "), *existing])
        pieces, special_tokens = [], []
        for i, ids in enumerate(layout.literals):
            tail = i == layout.copies
            if ids:
                name = f"[echo-{i}]"
                pieces.append(f"{name}:{int(tail and layout.pool_tail)}")
                tokens = [str(self._rust.id_to_token(j)) for j in ids]
                special_tokens.append({"id": name, "ids": list(ids), "tokens": tokens})
            if not tail:
                pieces.append(f"$A:{int(i == layout.copies - 1)}")
        baked.post_processor = processors.TemplateProcessing(single=" ".join(pieces), special_tokens=special_tokens)
        baked.enable_truncation(max_length=layout.overhead + limit)
        return baked

    def texts(self, contents: Sequence[Ids]) -> list[str]:
        """The characters that ids stand for, without special tokens."""
        texts: list[str] = self._rust.decode_batch([ids.tolist() for ids in contents], skip_special_tokens=True)
        return texts

    def tokens(self, ids: Ids) -> list[str]:
        """The vocabulary entries of ``ids``."""
        return [str(self._rust.id_to_token(int(i))) for i in ids]

    def _encode(self, texts: Sequence[str], *, spaced: bool, offsets: bool = False) -> list[Encoding]:
        lead = self._lead(spaced=spaced)
        plain = [lead + _SURROGATE.sub("\ufffd", text) for text in texts]
        encode = self._rust.encode_batch if offsets else self._rust.encode_batch_fast
        encodings: list[Encoding] = encode(plain, add_special_tokens=False)
        return encodings

    def _lead(self, *, spaced: bool) -> str:
        # A tokenizer that puts a space before every piece by itself must not be given a second one.
        return " " if spaced and not self._adds_space else ""

    def _content(self, encoding: Encoding, limit: int | None) -> Content:
        ids = encoding.ids or [self._empty]
        kept = ids[:limit]
        return Content(np.array(kept, dtype=np.int64), cut=len(ids) - len(kept))

    def _isolated(self, piece: str) -> list[int]:
        return list(self._rust.encode(piece, add_special_tokens=False).ids)

    def _continued(self, piece: str) -> list[int]:
        """The ids of ``piece`` as they would be behind other text, without a SentencePiece dummy space."""
        anchor, joint = self._isolated(_ANCHOR), self._isolated(_ANCHOR + piece)
        return joint[len(anchor) :] if joint[: len(anchor)] == anchor else self._isolated(piece)

    def _adds_bos(self) -> bool:
        bos = self.source.bos_token_id
        return bos is not None and self.source("a").input_ids[:1] == [bos]

    def _special(self, kind: str) -> int:
        token_id = getattr(self.source, f"{kind}_token_id")
        if token_id is None:
            raise ModelError(
                f"the template wants the tokenizer's {kind.upper()} token, but it has none; set {kind}=False"
            )
        return int(token_id)

    def _stand_in(self) -> int:
        candidates = (self.source.eos_token_id, self.source.bos_token_id, 0)
        return int(next(i for i in candidates if i is not None))
