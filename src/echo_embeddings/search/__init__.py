"""Search in passages: an index of their vectors, in memory and on disk. Knows no command line and no framework."""

from echo_embeddings.data.passages import Passage

from .index import Hit, Index
from .update import Plan, Update

__all__ = ["Hit", "Index", "Passage", "Plan", "Update"]
