"""Count what each call truncates; then warn, raise an error or stay silent, as the user wishes.

Knows texts and token counts only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from echo_embeddings.errors import TruncationError, TruncationWarning, warn

from .layout import Content

__all__ = ["ON_TRUNCATE", "Truncated", "TruncationCount"]

#: What can be done about texts over ``max_length``; the values of ``EchoEncoder(on_truncate=)``.
ON_TRUNCATE = ("warn", "error", "ignore")


@dataclass(frozen=True)
class Truncated:
    """How much an encoder has truncated so far.

    Attributes:
        texts: number of texts that were longer than ``max_length``.
        tokens: number of content tokens that were left out, over all those texts.
    """

    texts: int = 0
    tokens: int = 0


@dataclass
class TruncationCount:
    """How much one call has truncated so far.

    Args:
        policy: one of ``ON_TRUNCATE``.
        max_length: the config's, to explain a smaller limit in messages.
    """

    policy: str
    max_length: int
    _left_out: list[int] = field(default_factory=list)
    _limit: int = 0

    def add(self, texts: Sequence[str], contents: Sequence[Content], limit: int) -> None:
        """Count some tokenised texts, before the model runs on them.

        Args:
            texts: the texts, to quote one in an error.
            contents: their tokens, in the same order.
            limit: the most content tokens that a text could have.

        Raises:
            TruncationError: a text is longer, and the policy is ``"error"``.
        """
        long = [(text, content) for text, content in zip(texts, contents, strict=True) if content.truncated]
        self._left_out += [content.truncated for _, content in long]
        self._limit = limit
        if long and self.policy == "error":
            text, content = long[0]
            raise TruncationError(
                f"{len(long)} text(s) are longer than {self._reason()}; the first has {limit + content.truncated}: "
                f"{text[:60]!r}. Split it, raise max_length, or use on_truncate='warn'",
                texts=len(long),
                tokens=sum(content.truncated for _, content in long),
            )

    def total(self, before: Truncated) -> Truncated:
        """``before`` and this call together."""
        return Truncated(before.texts + len(self._left_out), before.tokens + sum(self._left_out))

    def warn(self) -> None:
        """Under ``"warn"``, issue one ``TruncationWarning`` for the whole call if anything was truncated."""
        if self._left_out and self.policy == "warn":
            texts, tokens = len(self._left_out), sum(self._left_out)
            message = (
                f"{texts} text(s) were truncated to {self._reason()}; {tokens} tokens were left out. Split long texts, "
                "raise max_length, or silence this with on_truncate='ignore'"
            )
            warn(TruncationWarning(message, texts=texts, tokens=tokens))

    def _reason(self) -> str:
        if self._limit == self.max_length:
            return f"max_length={self.max_length} tokens"
        return f"{self._limit} tokens, which is what fits the model's context (max_length={self.max_length})"
