"""Text embeddings from the language model you already have.

>>> from echo_embeddings import EchoEncoder
>>> encoder = EchoEncoder()                      # the built-in model; or a hub id, a folder, a .gguf file
>>> vectors = encoder.encode_documents(["The ferry leaves at dawn."])     # float32 [1, 1024], unit length
"""

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.data.embed_table import embed_table
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.errors import (
    ConfigError,
    DimensionsWarning,
    EchoError,
    LeftOutWarning,
    ModelError,
    ModelUnavailableError,
    NumericalError,
    TruncationError,
    TruncationWarning,
    WindowWarning,
    WorkerError,
)
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.template import Template
from echo_embeddings.tuning import Tuned, tune
from echo_embeddings.types import Embedder, TokenEmbeddings
from echo_embeddings.vectors.lexical import Lexical
from echo_embeddings.vectors.transforms import EmbedFilter, Project, Standardize, Truncate

__all__ = [
    "ConfigError",
    "DimensionsWarning",
    "EchoConfig",
    "EchoEncoder",
    "EchoError",
    "EmbedFilter",
    "Embedder",
    "EncoderOptions",
    "LeftOutWarning",
    "Lexical",
    "ModelError",
    "ModelUnavailableError",
    "NumericalError",
    "Project",
    "Standardize",
    "Template",
    "TokenEmbeddings",
    "Truncate",
    "TruncationError",
    "TruncationWarning",
    "Tuned",
    "WindowWarning",
    "WorkerError",
    "embed_table",
    "tune",
]

__version__ = "0.1.0"
