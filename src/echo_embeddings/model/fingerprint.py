"""Tell weights apart by their content: a short name for what a model's vectors depend on besides the config.

Files are not read whole. A 7B model has 14 GB, and a fingerprint is asked for at the start of every job.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from echo_embeddings.config import presets
from echo_embeddings.config.files import ARRAYS_FILE, read_object
from echo_embeddings.errors import ConfigError, ModelError

from . import builtin
from .gguf import split_gguf
from .hub import commit_of
from .spec import ModelSpec

if TYPE_CHECKING:
    import torch

__all__ = ["sample_digest", "weights_fingerprint"]

# Of each tensor so many blocks of so many bytes are read, evenly spaced; a tensor that is not larger is read whole.
_BLOCKS, _BLOCK_BYTES = 8, 64
# A file whose tensors we cannot find is read in so many blocks.
_BLOCKS_OF_A_FILE = 4096
# The longest header that the safetensors library accepts.
_LONGEST_HEADER = 100_000_000
# A trainer leaves these beside the weights.
_NO_WEIGHTS = frozenset((ARRAYS_FILE, "training_args.bin", "optimizer.bin", "scheduler.bin"))
# They change the vectors too: the architecture, and which tokens a text has.
_SMALL_FILES = (
    "config.json",
    presets.ADAPTER_CONFIG,
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)


def weights_fingerprint(spec: ModelSpec) -> str:
    """SHA-256 (hex) of what a model's vectors depend on besides the config: weights, tokenizer, architecture, adapter.

    - A folder or file: the sizes of its tensors, a sample of the bytes of each, and the small files beside them. The
      path does not count, so a copy has the same fingerprint. If it is an adapter on a base model in a folder here,
      the base counts too.
    - A hub id: the commit that its ``revision`` means now, or only the name if nobody knows; then it cannot be loaded.
    - A loaded model: the shapes of its tensors and a sample of each.
    - The built-in model: a constant.

    It takes some hundredths of a second and loads nothing. Another fingerprint means other vectors; a change of a few
    numbers in a large tensor may escape it.

    Raises:
        ModelError: a file cannot be read.
    """
    parts = [_of_model(spec)]
    if spec.adapter is not None:
        parts.append(_of_named(spec.adapter, {}))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def sample_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's size and a sample of its bytes.

    Raises:
        OSError: it cannot be read.
    """
    sha = hashlib.sha256()
    for piece in _sample(path):
        sha.update(piece)
    return sha.hexdigest()


def _of_model(spec: ModelSpec) -> str:
    if spec.model is None:
        return builtin.SHA256
    if spec.is_loaded:
        return _of_loaded(spec.model, spec.tokenizer)
    found = _of_named(spec.model, spec.model_kwargs)
    base = _base_of(Path(spec.model) / (spec.model_kwargs.get("subfolder") or ""))
    return found if base is None else repr((found, _of_named(base, {})))


def _base_of(folder: Path) -> str | None:
    """The base model of the adapter in a folder; ``None`` if it is no adapter, or its base is no folder here."""
    if not (folder / presets.ADAPTER_CONFIG).is_file() or (folder / "config.json").is_file():
        return None
    try:
        base = read_object(folder / presets.ADAPTER_CONFIG).get("base_model_name_or_path")
    except ConfigError:
        return None  # what is wrong with it is said when it is loaded
    return base if isinstance(base, str) and (Path(base) / "config.json").is_file() else None


def _of_named(name: str, kwargs: Mapping[str, Any]) -> str:
    where, gguf = split_gguf(name)
    folder = Path(where) / (kwargs.get("subfolder") or "")
    file = gguf.get("gguf_file") or kwargs.get("gguf_file")
    if not folder.is_dir():
        return repr((name, commit_of(ModelSpec(name, model_kwargs=dict(kwargs))), file))
    sha = hashlib.sha256()
    try:
        for path in _files(folder, file):
            sha.update(f"{path.name}\0".encode())
            for piece in _sample(path):
                sha.update(piece)
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read: {error.strerror}") from error
    return sha.hexdigest()


def _files(folder: Path, gguf: str | None) -> list[Path]:
    """The files of a folder that a model is loaded from, by name."""
    if gguf is not None:
        return [folder / gguf]
    found = [path for path in folder.glob("*.safetensors") if path.name not in _NO_WEIGHTS]
    found = found or [path for path in folder.glob("*.bin") if path.name not in _NO_WEIGHTS]
    return sorted(found) + [folder / name for name in _SMALL_FILES if (folder / name).is_file()]


def _sample(path: Path) -> Iterator[bytes]:
    """The whole of a small file, or a file's size and a sample of its bytes."""
    with path.open("rb") as file:
        if path.name in _SMALL_FILES:
            yield hashlib.sha256(file.read()).digest()
            return
        size = os.fstat(file.fileno()).st_size
        yield str(size).encode()
        tensors = _tensors(file, size) if path.suffix == ".safetensors" else None
        if tensors is None:
            yield from _blocks(file, 0, size, _BLOCKS_OF_A_FILE)
            return
        for start, end in tensors:
            yield from _blocks(file, start, end, _BLOCKS)


def _tensors(file: BinaryIO, size: int) -> list[tuple[int, int]] | None:
    """Where the header and each tensor of a safetensors file stand; ``None`` if it is not one."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, _LONGEST_HEADER):
        return None
    try:
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
        first = 8 + length
        return [(0, first), *sorted((first + int(start), first + int(end)) for start, end in ends)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # damaged; that is said when it is loaded


def _blocks(file: BinaryIO, start: int, end: int, count: int) -> Iterator[bytes]:
    is_header = start == 0 and count == _BLOCKS
    if end - start <= count * _BLOCK_BYTES or is_header:
        file.seek(start)
        yield file.read(max(0, end - start))
        return
    step = (end - start - _BLOCK_BYTES) / (count - 1)
    for number in range(count):
        file.seek(start + int(number * step))
        yield file.read(_BLOCK_BYTES)


def _of_loaded(model: Any, tokenizer: Any) -> str:
    sha = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        if not tensor.is_meta:  # an offloaded one
            sha.update(_values(tensor))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        sha.update(backend.to_str().encode("utf-8", "surrogatepass"))
    return sha.hexdigest()


def _values(tensor: torch.Tensor) -> bytes:
    import torch

    flat = tensor.detach().flatten()
    step = max(1, len(flat) // (_BLOCKS * _BLOCK_BYTES // 2))
    values: bytes = flat[::step].contiguous().cpu().view(torch.uint8).numpy().tobytes()
    return values
