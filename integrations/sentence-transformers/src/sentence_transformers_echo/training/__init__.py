"""Fine-tune echo models with sentence-transformers' own trainer.

>>> from echo_embeddings import EchoEncoder
>>> from sentence_transformers_echo.training import Data, Recipe, train
>>> train(Recipe(data=[Data("pairs.jsonl")], output="my-model", steps=300))
>>> EchoEncoder("my-model")
"""

from .data import Data
from .mining import mine
from .recipe import Lora, Recipe
from .trainer import train

__all__ = ["Data", "Lora", "Recipe", "mine", "train"]
