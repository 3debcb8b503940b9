"""Judge embeddings: data, scores, presets side by side, and what the second copy looks at. Knows no command line.

The module ``mteb`` judges with the benchmark library of that name; it is imported by its own name only.
"""

from .comparison import Score, compare
from .datasets import Dataset, open_dataset
from .explanation import Explanation, explain

__all__ = ["Dataset", "Explanation", "Score", "compare", "explain", "open_dataset"]
