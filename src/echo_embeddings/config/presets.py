"""The configs that ship with the package, by name: one JSON file each, and a folder where something was fitted.

``presets/NAME.json`` has these fields:

- ``order``: the place in lists and tables, smallest first;
- ``about``: one sentence, what the preset does and what it is for;
- ``source``: the paper, the code, or ``ours``;
- ``note``: optional, what a reader of the source should know;
- ``config``: the content of an ``echo_config.json``. A preset without it has a folder ``presets/NAME/``, as
  ``EchoConfig.save`` writes it, and may have an adapter there.

Knows files and raw content: no model, and no ``EchoConfig``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from echo_embeddings.errors import ConfigError
from echo_embeddings.extras import from_checkout

from .files import ARRAYS_FILE, CONFIG_FILE, Stored, read_object, without_format
from .files import read as read_folder

__all__ = [
    "PRESETS_FOLDER",
    "Preset",
    "adapter_folder",
    "digest",
    "has_adapter",
    "markdown_table",
    "names",
    "read",
    "table",
]

PRESETS_FOLDER = Path(__file__).parent / "presets"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Preset:
    """What is said about a preset.

    Attributes:
        name: its name, for ``EchoConfig.preset`` and ``EchoEncoder(config=)``.
        about: one sentence, what it does and what it is for.
        source: the paper, the code, or ``ours``.
        note: what a reader of the source should know; may be empty.
    """

    name: str
    about: str
    source: str
    note: str = ""


def names() -> tuple[str, ...]:
    """The names of all presets, in the order of the tables."""
    return tuple(preset.name for preset in table())


def table() -> tuple[Preset, ...]:
    """All presets, with what is said about them."""
    found = {path.stem: read_object(path) for path in _files()}
    return tuple(
        Preset(name, content["about"], content["source"], content.get("note", ""))
        for name, content in sorted(found.items(), key=lambda item: (item[1]["order"], item[0]))
    )


def markdown_table() -> str:
    """The table of all presets for the documentation."""
    rows = [f"| `{preset.name}` | {preset.about} | {preset.source} |" for preset in table()]
    return "\n".join(["| preset | what it does | source |", "| --- | --- | --- |", *rows]) + "\n"


def read(name: str) -> Stored:
    """The content of a preset, of its own file or of its folder.

    Raises:
        ConfigError: no preset has that name.
    """
    if not isinstance(name, str) or name not in {path.stem for path in _files()}:
        raise ConfigError(f"there is no preset {name!r}; choose one of {', '.join(names())}")
    path = PRESETS_FOLDER / f"{name}.json"
    config = read_object(path).get("config")
    if config is None:
        folder = PRESETS_FOLDER / name
        return read_folder(folder / CONFIG_FILE, folder / ARRAYS_FILE)
    return Stored(path, without_format(path, config), {}, None)


def has_adapter(name: str) -> bool:
    """Whether this preset comes with an adapter."""
    return (PRESETS_FOLDER / name / ADAPTER_CONFIG).is_file()


def adapter_folder(name: str) -> Path:
    """The folder of a packaged adapter.

    Raises:
        ConfigError: this version has no such adapter, or its weights are missing from the installation.
    """
    folder = PRESETS_FOLDER / name
    if not (folder / ADAPTER_CONFIG).is_file() or not (folder / ADAPTER_WEIGHTS).is_file():
        there = ", ".join(known for known in names() if has_adapter(known) and known != name) or "none"
        raise ConfigError(
            f"the packaged adapter {name!r} is not in this installation of echo-embeddings (there: {there}); use "
            "config='zero-shot', which needs none, or install it again, "
            + from_checkout(".", options="--force-reinstall --no-deps")
        )
    return folder


def digest(name: str) -> str:
    """SHA-256 (hex) of a packaged adapter. Caches use it, because another adapter gives other vectors.

    Raises:
        ConfigError: as :func:`adapter_folder`.
    """
    folder = adapter_folder(name)
    files = (folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS)
    return _digest(tuple((path, path.stat().st_mtime_ns) for path in files))


def _files() -> list[Path]:
    return list(PRESETS_FOLDER.glob("*.json"))


@lru_cache(maxsize=8)
def _digest(files: tuple[tuple[Path, int], ...]) -> str:
    sha = hashlib.sha256()
    for path, _ in files:
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()
