"""Judge embeddings on data: what is read, how it is scored, and presets side by side. Knows no command line."""

from .comparison import Score, compare
from .datasets import Dataset, open_dataset

__all__ = ["Dataset", "Score", "compare", "open_dataset"]
