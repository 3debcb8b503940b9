"""From texts to token ids, and from a template to a layout, with a fast tokenizer of transformers. Runs no model.

A text is tokenised once, and its ids are laid into the template as often as the template says. So all copies have the
same ids, and truncation shortens all of them alike.

The same echo can be baked into ``tokenizer.json`` (:meth:`EchoTokenizer.baked`): any engine that loads that file then
reads every text twice. This library does not use that post-processor for its own batches, because it also doubles the
*overflow* of a truncated text: every chunk is paired with every other one, which is quadratic in the length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from echo_embeddings.errors import ModelError

from .layout import Content, Ids, Layout
from .spans import token_ranges
from .template import Template

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["EchoTokenizer", "whole_characters"]

_SURROGATE = re.compile("[\ud800-\udfff]")
# No tokenizer in use merges a newline with what follows it, so text behind one is tokenised as a continuation.
_ANCHOR = "\n"


class EchoTokenizer:
    """A fast tokenizer of transformers, set up to take every text as plain text.

    Args:
        tokenizer: a ``PreTrainedTokenizerFast``; it is copied, not changed.

    Raises:
        ModelError: the tokenizer has no Rust tokenizer (``backend_tokenizer``) behind it.
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
        # "<|im_end|>" in a user's text is ten characters of text, not the end of a turn.
        self._rust.encode_special_tokens = True
        # In a template they may be wanted. The copy is made at the first one that wants them.
        self._special_rust: Tokenizer | None = None
        self._adds_space = self._isolated("a") == self._isolated(" a") or self._isolated("a") != self._continued(
            self._isolated, "a"
        )
        #: The token that an empty text becomes.
        self.stand_in = self._stand_in()

    def contents(self, texts: Sequence[str], *, spaced: bool, limit: int | None = None) -> list[Content]:
        """Tokenise texts once, in one pass of the Rust tokenizer.

        Args:
            texts: any strings. A lone surrogate becomes U+FFFD. An empty text becomes one token, the EOS token (else
                BOS, else id 0), so that it has a vector like any other text.
            spaced: whether the template puts a space before the text (``Template.spaced``).
            limit: the most tokens to keep of each text; ``None`` keeps all.
        """
        return [self._content(encoding, limit) for encoding in self._encode(texts, spaced=spaced)]

    def chunked(self, texts: Sequence[str], spans: Sequence[Ids], *, spaced: bool) -> list[Content]:
        """Tokenise texts without truncation, and say which tokens each of their chunks has (``spans.token_ranges``).

        Args:
            texts: as in :meth:`contents`.
            spans: the chunks of each text, int64 ``[n, 2]``: first and last-plus-one character.
            spaced: as in :meth:`contents`.
        """
        found = []
        for text, own, encoding in zip(texts, spans, self._encode(texts, spaced=spaced, offsets=True), strict=True):
            content, offsets = self._content(encoding, None), self._offsets(encoding, spaced=spaced)
            ranges = token_ranges(text, offsets, own).tolist()
            found.append(Content(content.ids, chunks=tuple((first, stop) for first, stop in ranges)))
        return found

    def offsets(self, text: str, *, spaced: bool) -> Ids:
        """First and last-plus-one character of each token of a text: int64 ``[n, 2]``, without truncation."""
        (encoding,) = self._encode([text], spaced=spaced, offsets=True)
        return self._offsets(encoding, spaced=spaced)

    def count(self, texts: Sequence[str], *, spaced: bool) -> list[int]:
        """Number of content tokens of each text, without truncation."""
        return [max(len(encoding), 1) for encoding in self._encode(texts, spaced=spaced)]

    def layout(self, template: Template, instruction: str | None = None) -> Layout:
        """Compile a template for this tokenizer, with the instruction in it.

        Args:
            template: the template.
            instruction: what stands for ``{instruction}``; ``None`` takes the template's own.

        Raises:
            ConfigError: template and instruction do not fit (:meth:`Template.literals`).
            ModelError: the template wants a BOS or EOS token that the tokenizer lacks.
        """
        groups = template.literals(instruction)
        isolated = self._with_special if template.special else self._isolated
        continued = isolated if template.isolated else partial(self._continued, isolated)
        if self._adds_space and groups[0] == [template.prompt]:
            # The first copy brings a space by itself; a prompt that ends in one must not make it two.
            groups[0] = [template.prompt.removesuffix(" ")]
        literals = [[i for piece in groups[0] for i in isolated(piece)]]
        literals += [[i for piece in group for i in continued(piece)] for group in groups[1:]]
        if template.bos or (template.bos is None and self._adds_bos()):
            literals[0].insert(0, self._special("bos"))
        if template.eos:
            literals[-1].append(self._special("eos"))
        return Layout(tuple(map(tuple, literals)), pool_tail=template.pool_tail)

    def baked(self, template: Template, instruction: str | None = None, *, limit: int) -> Tokenizer:
        """A copy of the Rust tokenizer that echoes by itself: its post-processor repeats the text.

        Type id 1 marks the tokens that are pooled. Truncation shortens the text and never the template around it.

        Args:
            template: what the text is laid into.
            instruction: what stands for ``{instruction}``; ``None`` takes the template's own.
            limit: the most content tokens of a text, as ``max_length`` of a config.
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
        """The text that each row of ids stands for, without special tokens."""
        texts: list[str] = self._rust.decode_batch([ids.tolist() for ids in contents], skip_special_tokens=True)
        return texts

    def tokens(self, ids: Ids) -> list[str]:
        """The vocabulary entry of each id."""
        return [str(self._rust.id_to_token(int(i))) for i in ids]

    def _encode(self, texts: Sequence[str], *, spaced: bool, offsets: bool = False) -> list[Encoding]:
        lead = self._lead(spaced=spaced)
        plain = [lead + whole_characters(text) for text in texts]
        encode = self._rust.encode_batch if offsets else self._rust.encode_batch_fast
        encodings: list[Encoding] = encode(plain, add_special_tokens=False)
        return encodings

    def _lead(self, *, spaced: bool) -> str:
        # A tokenizer that puts a space before every piece by itself must not be given a second one.
        return " " if spaced and not self._adds_space else ""

    def _offsets(self, encoding: Encoding, *, spaced: bool) -> Ids:
        offsets = np.array(encoding.offsets or [(0, 0)], dtype=np.int64)
        return np.maximum(offsets - len(self._lead(spaced=spaced)), 0)

    def _content(self, encoding: Encoding, limit: int | None) -> Content:
        ids = encoding.ids or [self.stand_in]
        kept = ids[:limit]
        return Content(np.array(kept, dtype=np.int64), truncated=len(ids) - len(kept))

    def _isolated(self, piece: str) -> list[int]:
        return list(self._rust.encode(whole_characters(piece), add_special_tokens=False).ids)

    def _with_special(self, piece: str) -> list[int]:
        """The ids of a piece in which names of special tokens are those tokens."""
        from tokenizers import Tokenizer

        if self._special_rust is None:
            self._special_rust = Tokenizer.from_str(self._rust.to_str())
            self._special_rust.encode_special_tokens = False
        return list(self._special_rust.encode(whole_characters(piece), add_special_tokens=False).ids)

    def _continued(self, tokenize: Callable[[str], list[int]], piece: str) -> list[int]:
        """The ids that ``piece`` has behind other text, without the dummy space of SentencePiece."""
        anchor, joint = tokenize(_ANCHOR), tokenize(_ANCHOR + piece)
        return joint[len(anchor) :] if joint[: len(anchor)] == anchor else tokenize(piece)

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


def whole_characters(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which Rust strings cannot hold."""
    return _SURROGATE.sub("\ufffd", text)
