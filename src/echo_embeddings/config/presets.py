"""What ships inside the package: fitted presets, and the adapters that belong to them. Knows files, no tensors."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from echo_embeddings.errors import ConfigError

__all__ = ["MARK", "NAMES", "PRESETS_FOLDER", "adapter_folder", "digest", "has_adapter"]

PRESETS_FOLDER = Path(__file__).parent / "presets"
#: Presets that are files, because something in them was fitted or trained.
NAMES = ("default", "zero-shot")
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: The attribute by which a model's body says which packaged adapter is merged into it.
MARK = "_echo_packaged_adapter"


def has_adapter(name: str) -> bool:
    """Whether this preset comes with an adapter."""
    return (PRESETS_FOLDER / name / ADAPTER_CONFIG).is_file()


def adapter_folder(name: str) -> Path:
    """The folder of a packaged adapter.

    Raises:
        ConfigError: this version has no such adapter, or the installation lost its weights.
    """
    folder = PRESETS_FOLDER / name
    if not (folder / ADAPTER_CONFIG).is_file() or not (folder / ADAPTER_WEIGHTS).is_file():
        there = ", ".join(known for known in NAMES if has_adapter(known) and known != name) or "none"
        raise ConfigError(
            f"the packaged adapter {name!r} is not in this installation of echo-embeddings (there: {there}); run "
            "pip install -U --force-reinstall --no-deps echo-embeddings, or use config='zero-shot', which needs none"
        )
    return folder


def digest(name: str) -> str:
    """SHA-256 (hex) of a packaged adapter: vectors change with it, so caches must notice.

    Raises:
        ConfigError: as :func:`adapter_folder`.
    """
    folder = adapter_folder(name)
    files = (folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS)
    return _digest(tuple((path, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=8)
def _digest(files: tuple[tuple[Path, int], ...]) -> str:
    sha = hashlib.sha256()
    for path, _ in files:
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()
