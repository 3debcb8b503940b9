"""Judge embeddings on data: what is read, how it is scored, and presets side by side. Knows no command line.

The module ``mteb`` judges with the benchmark library of that name; it is imported by its own name only.
"""

from .comparison import Score, compare
from .datasets import Dataset, open_dataset

__all__ = ["Dataset", "Score", "compare", "open_dataset"]
