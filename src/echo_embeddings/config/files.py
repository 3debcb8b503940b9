"""Read and write the two files of a saved config: ``echo_config.json`` and ``echo_transforms.safetensors``.

Reading is strict: every fault is one ``ConfigError`` that names the file and the field. This module knows how each part
of a config is written down; ``EchoConfig`` knows how the parts go together.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from echo_embeddings.errors import ConfigError
from echo_embeddings.extras import from_checkout
from echo_embeddings.text.template import Template
from echo_embeddings.vectors.fitted import Fitted
from echo_embeddings.vectors.lexical import Lexical
from echo_embeddings.vectors.precision import Ranges
from echo_embeddings.vectors.transforms import TRANSFORMS, Transform

__all__ = [
    "ARRAYS_FILE",
    "CONFIG_FILE",
    "FORMAT",
    "PARTS",
    "Stored",
    "arguments",
    "read",
    "read_arrays",
    "read_object",
    "without_format",
    "write",
]

CONFIG_FILE = "echo_config.json"
ARRAYS_FILE = "echo_transforms.safetensors"
#: The number of the layout of both files. 1 had the weight of words in the templates.
FORMAT = 2
#: The fields of a config, beside its transforms, that have arrays.
PARTS: Mapping[str, type[Fitted]] = {Lexical.name: Lexical, Ranges.name: Ranges}

#: Characters of a message that quotes a value of a file.
_LONGEST = 600

_Made = TypeVar("_Made", bound=Fitted)
_Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Stored:
    """A saved config as it was written.

    Attributes:
        path: the JSON file.
        content: the JSON object, without its format number.
        arrays: arrays by ``"PLACE.NAME"``: the place is the number of a transform, or a name in ``PARTS``.
        arrays_path: the file of the arrays; ``None`` if there is none.
    """

    path: Path
    content: dict[str, Any]
    arrays: _Arrays
    arrays_path: Path | None

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Turn what goes wrong inside into a ``ConfigError`` that begins with the file."""
        try:
            yield
        except (ConfigError, TypeError) as error:
            said = str(error)
            said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."
            raise ConfigError(f"{self.path} cannot be read: {said}") from error
        except RecursionError:
            raise ConfigError(f"{self.path} cannot be read: a value in it is nested too deeply") from None


def read(config: Path, arrays: Path | None) -> Stored:
    """Read a saved config.

    Args:
        config: the JSON file.
        arrays: the file of the arrays. It may be missing where nothing in the config has arrays.

    Raises:
        ConfigError: a file cannot be read, is damaged, or has another format number.
    """
    content = without_format(config, read_object(config))
    if arrays is None or not arrays.exists():
        return Stored(config, content, {}, None)
    return Stored(config, content, read_arrays(arrays), arrays)


def write(folder: Path, content: Mapping[str, Any], fitted: Mapping[str, Fitted]) -> None:
    """Write both files into a folder, which is made if need be; the second one only if something has arrays.

    Args:
        folder: the folder.
        content: the JSON object, without a format number.
        fitted: what has arrays, by place: the number of a transform, or a name in ``PARTS``.
    """
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"{place}.{name}": array for place, part in fitted.items() for name, array in part.arrays.items()}
    if arrays:
        # Bytes, and not save_file, which makes files that other users of the machine cannot read.
        (folder / ARRAYS_FILE).write_bytes(save(arrays))
    else:
        (folder / ARRAYS_FILE).unlink(missing_ok=True)
    text = json.dumps({"format": FORMAT, **content}, indent=2, allow_nan=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        ConfigError: the file is missing or cannot be read, is no JSON, has one field twice, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; EchoEncoder.save_pretrained writes it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON ({error}); save the model again") from error
    except RecursionError:
        raise ConfigError(f"{path} is not valid JSON (nested too deeply); save the model again") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__} and no JSON object; save the model again")
    return content


def without_format(path: Path, content: Any) -> dict[str, Any]:
    """The object that was read from ``path`` without its format number, which must be ``FORMAT``.

    Raises:
        ConfigError: it has none, or another.
    """
    number = content.get("format") if isinstance(content, dict) else None
    if isinstance(number, bool) or not isinstance(number, int):
        raise ConfigError(f"{path} has no format number, so it is no echo config; save the model again")
    if number > FORMAT:
        raise ConfigError(
            f"{path} was written by a newer echo-embeddings; update it, {from_checkout('.', age='newer')}"
        )
    if number < FORMAT:
        raise ConfigError(
            f"{path} has format {number}, and this version of echo-embeddings reads format {FORMAT}; save the model "
            "again with this version"
        )
    return {name: value for name, value in content.items() if name != "format"}


def read_arrays(path: Path) -> _Arrays:
    """Read a file of arrays.

    Raises:
        ConfigError: it is damaged, or an array in it is not of floating-point numbers.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error}); save the model again") from error
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ConfigError(
                f"{path}: the array {name!r} is of {array.dtype}; it must be of float16, float32 or float64"
            )
    return dict(arrays)


def arguments(stored: Stored, known: Collection[str]) -> dict[str, Any]:
    """What a saved config says, as arguments for ``EchoConfig``: templates and all that has arrays are made.

    Args:
        stored: the saved config.
        known: the fields that an ``EchoConfig`` has.

    Raises:
        ConfigError: a field is unknown or has the wrong type, or arrays are missing or left over.
    """
    content = dict(stored.content)
    _require_known(content, known)
    if "template" not in content:
        raise ConfigError("it has no field 'template'")
    for name in ("template", "query_template"):
        if content.get(name) is not None or name == "template":
            content[name] = _template(name, content[name])
    lengths = content.get("trained_dimensions", [])
    if not isinstance(lengths, list):
        raise ConfigError(f"trained_dimensions={lengths!r}: give a list of numbers")
    entries = content.get("transforms", [])
    if not isinstance(entries, list):
        raise ConfigError(f"transforms={entries!r}: give a list")
    content["transforms"] = tuple(_transform(stored, number, entry) for number, entry in enumerate(entries))
    parts = {name: kind for name, kind in PARTS.items() if content.get(name) is not None}
    for name, kind in parts.items():
        with _field(name):
            content[name] = _fitted(stored, name, kind, content[name])
    places = [*map(str, range(len(entries))), *parts]
    if surplus := [name for name in stored.arrays if name.partition(".")[0] not in places]:
        raise ConfigError(f"{stored.arrays_path} has the array {surplus[0]!r}, and nothing in the config needs it")
    return content


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"it has the field {twice!r} twice")
    return found


@contextmanager
def _field(name: str) -> Iterator[None]:
    """Put the name of a field before what goes wrong inside."""
    try:
        yield
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{name}: {error}") from error


def _require_known(content: Mapping[str, Any], known: Collection[str]) -> None:
    if unknown := sorted(set(content) - set(known)):
        raise ConfigError(f"it has the unknown field {unknown[0]!r}; was it edited by hand?")


def _template(name: str, value: Any) -> Template:
    with _field(name):
        if isinstance(value, str):
            return Template(value)
        if not isinstance(value, dict):
            raise ConfigError(f"{value!r} is no template; give a string with {{text}}, or an object of fields")
        _require_known(value, [field.name for field in fields(Template)])
        if "text" not in value:
            raise ConfigError("it has no field 'text'")
        return Template(**value)


def _transform(stored: Stored, number: int, entry: Any) -> Transform:
    with _field(f"transforms[{number}]"):
        if not isinstance(entry, dict):
            raise ConfigError(f'{entry!r} is no transform; give an object such as {{"name": "standardize"}}')
        _require_known(entry, ("name", "options"))
        name = entry.get("name")
        if not isinstance(name, str) or name not in TRANSFORMS:
            raise ConfigError(f"the transform {name!r} is unknown here; update, {from_checkout('.', age='newer')}")
        return _fitted(stored, str(number), TRANSFORMS[name], entry.get("options", {}))


def _fitted(stored: Stored, place: str, kind: type[_Made], options: Any) -> _Made:
    """Make what is stored at a place, of its options and arrays."""
    if not isinstance(options, dict):
        raise ConfigError(f"options={options!r}: give an object of options")
    _require_known(options, kind.option_names)
    arrays = {key.partition(".")[2]: array for key, array in stored.arrays.items() if key.partition(".")[0] == place}
    if missing := [name for name in kind.array_names if name not in arrays]:
        where = stored.arrays_path or stored.path.with_name(ARRAYS_FILE)
        raise ConfigError(f"the arrays of {kind.name!r} are missing from {where}: {place}.{missing[0]}")
    if surplus := sorted(set(arrays) - set(kind.array_names)):
        raise ConfigError(f"{stored.arrays_path} has the array {place}.{surplus[0]}, which {kind.name!r} does not have")
    if missing := [name for name in kind.option_names if name not in options]:
        raise ConfigError(f"it has no option {missing[0]!r}")
    given: dict[str, Any] = {**arrays, **options}
    return kind(**given)
