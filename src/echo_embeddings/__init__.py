"""Text embeddings from the language model you already have.

>>> from echo_embeddings import EchoEncoder
>>> encoder = EchoEncoder()                      # the built-in model; or a hub id, a folder, a .gguf file
>>> vectors = encoder.encode_documents(["The ferry leaves at dawn."])     # float32 [1, 1024], unit length
"""

from .config import EchoConfig
from .encoder import EchoEncoder
from .errors import (
    ConfigError,
    EchoError,
    ModelError,
    ModelUnavailableError,
    NumericalError,
    TruncationError,
    TruncationWarning,
    WindowWarning,
    WorkerError,
)
from .lexical import Lexical
from .protocol import Embedder
from .template import Template
from .transform import EmbedFilter, Project, Standardize, Truncate
from .vectors import TokenEmbeddings

__all__ = [
    "ConfigError",
    "EchoConfig",
    "EchoEncoder",
    "EchoError",
    "EmbedFilter",
    "Embedder",
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
    "WindowWarning",
    "WorkerError",
]

__version__ = "0.1.0"
