"""An encoder that can be computed in the head, for jobs of the room ``data``. It needs no model and no torch."""

import time
from types import SimpleNamespace

import numpy as np


class FakeEncoder:
    """A text's vector: its length, its number of vowels, and 1 for a document or -1 for a query.

    Texts of over 20 characters count as truncated. ``embedded`` holds the lengths of the lists that were encoded.
    """

    dimension = 3
    model_name = "fake"
    precision = "float32"
    computed_in = "cpu float32"

    def __init__(self, config="c", seconds=0.0, stop_after=None, adapter=""):
        self.config = SimpleNamespace(fingerprint=lambda: config, require_chunking=lambda: None)
        self.truncated = SimpleNamespace(texts=0, tokens=0)
        self.seconds, self.stop_after, self.adapter = seconds, stop_after, adapter
        self.embedded = []

    def fingerprint(self):
        return f"{self.model_name} {self.config.fingerprint()} {self.adapter}"

    def encode_documents(self, texts, *, show_progress):
        return self._encode(texts, 1, show_progress)

    def encode_queries(self, texts, *, show_progress):
        return self._encode(texts, -1, show_progress)

    def encode_chunks(self, documents, chunks):
        """A chunk's vector: its length, the length of its document, and 2."""
        self.embedded.append(sum(map(len, chunks)))
        return [
            np.array([[end - start, len(text), 2] for start, end in spans], np.float32).reshape(-1, 3)
            for text, spans in zip(documents, chunks, strict=True)
        ]

    def _encode(self, texts, role, advance):
        if len(self.embedded) == self.stop_after:
            raise KeyboardInterrupt
        time.sleep(self.seconds)
        self.embedded.append(len(texts))
        long = [text for text in texts if len(text) > 20]
        self.truncated = SimpleNamespace(
            texts=self.truncated.texts + len(long),
            tokens=self.truncated.tokens + sum(len(text) - 20 for text in long),
        )
        advance(len(texts))
        return np.array([[len(text), sum(map(text.count, "aeiou")), role] for text in texts], np.float32)
