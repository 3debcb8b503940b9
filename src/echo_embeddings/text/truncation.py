"""Nothing is cut in silence: counting what was cut in a call, and saying so as the user wants it said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from echo_embeddings.errors import TruncationError, TruncationWarning, warn

if TYPE_CHECKING:
    from .tokenizer import Content

__all__ = ["ON_TRUNCATE", "Cuts", "Truncated"]

ON_TRUNCATE = ("warn", "error", "ignore")


@dataclass(frozen=True)
class Truncated:
    """How much an encoder has cut so far.

    Attributes:
        texts: texts that were longer than ``max_length``.
        tokens: content tokens that were cut away.
    """

    texts: int = 0
    tokens: int = 0


@dataclass
class Cuts:
    """What one call has cut.

    Args:
        policy: one of ``ON_TRUNCATE``.
        max_length: the config's, to explain a smaller limit.
    """

    policy: str
    max_length: int
    _cut: list[int] = field(default_factory=list)
    _limit: int = 0

    def add(self, texts: Sequence[str], contents: Sequence[Content], limit: int) -> None:
        """Note what was cut; raises ``TruncationError`` under ``"error"``, before the model runs."""
        cut = [(text, content) for text, content in zip(texts, contents, strict=True) if content.cut]
        self._cut += [content.cut for _, content in cut]
        self._limit = limit
        if cut and self.policy == "error":
            text, content = cut[0]
            raise TruncationError(
                f"{len(cut)} text(s) are longer than {self._reason()}; the first has {limit + content.cut}: "
                f"{text[:60]!r}. Split it, raise max_length, or use on_truncate='warn'",
                texts=len(cut),
                tokens=sum(content.cut for _, content in cut),
            )

    def total(self, before: Truncated) -> Truncated:
        """``before`` and this call together."""
        return Truncated(before.texts + len(self._cut), before.tokens + sum(self._cut))

    def warn(self) -> None:
        """Say once a call what was cut."""
        if self._cut and self.policy == "warn":
            message = (
                f"{len(self._cut)} text(s) were cut to {self._reason()}; {sum(self._cut)} tokens were not read. Split "
                "long texts, raise max_length, or silence this with on_truncate='ignore'"
            )
            warn(TruncationWarning(message, texts=len(self._cut), tokens=sum(self._cut)))

    def _reason(self) -> str:
        if self._limit == self.max_length:
            return f"max_length={self.max_length} tokens"
        return f"{self._limit} tokens, which is what fits the model's context (max_length={self.max_length})"
