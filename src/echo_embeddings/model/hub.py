"""Find a model and the files saved with it, in a folder or on the hub. Knows their names, not their contents.

What is on this machine comes first. Only a name that can be a hub id goes to the hub, and the hub is asked once,
without the retries that make a download wait for over a minute. "There is no such file" is an answer; "nobody knows" is
an error, because a model without its echo config gives other vectors.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from echo_embeddings.config.files import CONFIG_FILE
from echo_embeddings.errors import ModelError

from .spec import ModelSpec

__all__ = ["commit_of", "find_file", "hub_arguments", "pinned"]

# Arguments of `from_pretrained` that say where the files are, so config and tokenizer need them too.
_HUB_ARGUMENTS = ("revision", "cache_dir", "token", "local_files_only", "subfolder", "gguf_file")
# What the hub allows: "name" or "owner/name".
_HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
_LONGEST_ID = 96
_FILE_SUFFIXES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".json", ".onnx", ".zip")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Seconds to wait for the hub's answer to one question.
_TIMEOUT = 10
#: What else one can do where it is not known whether there is a file.
_OTHER_WAYS = {CONFIG_FILE: ", or say which config to use, such as EchoEncoder(model, config='echo')"}


class _UnknownError(Exception):
    """The hub did not say whether there is a file; the message says why."""


def hub_arguments(spec: ModelSpec) -> dict[str, Any]:
    """The part of ``model_kwargs`` that says where on the hub the model is."""
    return {name: spec.model_kwargs[name] for name in _HUB_ARGUMENTS if name in spec.model_kwargs}


def pinned(spec: ModelSpec) -> ModelSpec:
    """The same model, bound to the commit that its ``revision`` means now, so that all its files are of one commit.

    Where the hub cannot be asked, the copy on this machine is taken, and nothing asks again. A spec that is no hub id
    comes back as it is.

    Raises:
        ModelError: there is neither a folder of that name here nor such a model on a hub that can be reached.
    """
    if spec.model is None or spec.is_loaded:
        return spec
    _require_possible(spec.model)
    reason = _offline(spec)
    is_settled = _is_pinned(spec) and (reason or _in_cache(spec, "config.json") is not None)
    if _is_here(spec.model) or is_settled:
        return spec
    if not reason:
        try:
            is_there, commit = _asked(spec, "config.json")
            _downloaded(spec, "config.json", is_there=is_there)  # so the cache knows which commit a branch means
            return spec if commit is None else _with(spec, revision=commit)
        except _UnknownError as error:
            reason = str(error)
    for file in ("config.json", "adapter_config.json"):
        path = Path(_in_cache(spec, file) or "").as_posix()
        if commit_named := re.search(r"snapshots/([0-9a-f]{40})/", path):
            return _with(spec, revision=commit_named[1], local_files_only=True)
    raise ModelError(
        f"model {spec.model!r} could not be loaded: there is no folder of that name in {Path.cwd()}, and as a hub id "
        f"it cannot be reached: {reason}{_near(spec.model)}"
    )


def commit_of(spec: ModelSpec) -> str | None:
    """The commit that a hub id's ``revision`` means now; ``None`` if there is no such model or nobody knows."""
    try:
        revision = pinned(spec).model_kwargs.get("revision")
    except ModelError:
        return None
    return revision if _COMMIT.fullmatch(str(revision)) else None


def find_file(spec: ModelSpec, file: str) -> str | None:
    """Find a file that is saved with the model; on the hub, download it.

    Returns:
        Its path; ``None`` if it is known that the model has no such file.

    Raises:
        ModelError: there is no such model, or it cannot be found out whether it has such a file.
    """
    location = spec.location()
    if location.endswith(".gguf"):
        return None
    if _is_here(location):
        return _local_file(Path(location) / (spec.model_kwargs.get("subfolder") or "") / file)
    spec = pinned(spec)
    found, reason = _in_cache(spec, file), _offline(spec)
    is_settled = _is_pinned(spec) and (found is not None or bool(reason))
    if not is_settled:
        try:
            is_there, _ = _asked(spec, file)
            found = _downloaded(spec, file, is_there=is_there)
        except _UnknownError as error:
            reason = str(error)
    if found is None:
        raise ModelError(
            f"whether model {spec.name!r} has a file {file} is not known: {reason}. Its vectors depend on it; try "
            f"again later{_OTHER_WAYS.get(file, '')}"
        )
    return found or None


def _require_possible(name: str) -> None:
    """Check that a model's name is something that exists here, or may be a hub id.

    Raises:
        ModelError: it can only be a path, and nothing is there.
    """
    if _is_folder(name):
        return
    if Path(name).is_file():
        if name.endswith(".gguf"):
            return
        raise ModelError(
            f"model {name!r} is a file; give the folder that holds config.json and the weights, or a .gguf file"
        )
    if _looks_like_path(name):
        kind = "GGUF file" if name.endswith(".gguf") else "folder"
        raise ModelError(
            f"there is no {kind} {name!r}; give the path of a saved model, a .gguf file, or a hub id{_near(name)}"
        )


def _looks_like_path(name: str) -> bool:
    parts = Path(name).parts
    return (
        _HUB_ID.fullmatch(name) is None
        or len(name) > _LONGEST_ID
        or name.endswith(_FILE_SUFFIXES)
        or (len(parts) > 1 and Path(parts[0]).is_dir())
    )


def _near(name: str) -> str:
    """Names like the one that is not there, to be said in an error."""
    path = Path(name)
    missing = path.name
    while not path.parent.is_dir() and path.parent != path:
        path, missing = path.parent, path.parent.name
    try:
        there = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    except OSError:
        return ""
    close = difflib.get_close_matches(missing, there, n=3, cutoff=0.6)
    if close:
        return f". Did you mean {' or '.join(repr(str(path.parent / one)) for one in close)}?"
    return f". There is no {missing!r} in {path.parent.resolve()}" if path != Path(name) else ""


def _is_folder(name: str) -> bool:
    return bool(name) and Path(name).is_dir()


def _is_here(name: str) -> bool:
    return _is_folder(name) or name.endswith(".gguf")


def _local_file(path: Path) -> str | None:
    """A path, or ``None`` if nothing has that name. What has the name and is no file is an error."""
    if not os.path.lexists(path):
        return None
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a link to nothing" if path.is_symlink() else "no file"
        raise ModelError(f"{path} is {kind}; put the file there, or remove it")
    return os.fspath(path)


def _is_pinned(spec: ModelSpec) -> bool:
    return _COMMIT.fullmatch(str(spec.model_kwargs.get("revision"))) is not None


def _with(spec: ModelSpec, **kwargs: Any) -> ModelSpec:
    return replace(spec, model_kwargs=spec.model_kwargs | kwargs)


def _offline(spec: ModelSpec) -> str:
    """Why the hub may not be asked; empty if it may."""
    from huggingface_hub import constants

    setting = "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "local_files_only"
    if setting == "local_files_only" and not spec.model_kwargs.get(setting):
        return ""
    return f"{setting} is set, and the hub's cache does not have it"


def _asked(spec: ModelSpec, file: str) -> tuple[bool, str | None]:
    """Ask the hub whether a model has a file, and of which commit; one question, no retries.

    Raises:
        _UnknownError: the hub did not say.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    kwargs = spec.model_kwargs
    url = hf_hub_url(spec.model, file, revision=kwargs.get("revision"), subfolder=kwargs.get("subfolder"))
    try:
        found = get_hf_file_metadata(url, token=kwargs.get("token"), timeout=_TIMEOUT)
    except EntryNotFoundError as error:
        headers = getattr(getattr(error, "response", None), "headers", {})
        return False, headers.get("X-Repo-Commit")
    except HfHubHTTPError as error:
        said = " ".join(str(error).split())
        raise _UnknownError(f"the hub answered {error.response.status_code} ({said[:300]})") from error
    except Exception as error:  # each version of the hub's library has other errors for "no network"
        raise _UnknownError(f"there is no connection to the hub ({type(error).__name__}: {error})") from error
    return True, found.commit_hash


def _downloaded(spec: ModelSpec, file: str, *, is_there: bool) -> str:
    """Download a file, or let the cache know that there is none; its path, empty for none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    where: dict[str, Any] = {
        name: spec.model_kwargs.get(name) for name in ("revision", "cache_dir", "token", "subfolder")
    }
    try:
        return str(hf_hub_download(spec.model, file, **where))
    except EntryNotFoundError as error:
        if not is_there:
            return ""
        raise ModelError(f"{file} of model {spec.name!r} could not be downloaded: {error}") from error
    except OSError as error:
        raise ModelError(f"{file} of model {spec.name!r} could not be downloaded: {error}") from error


def _in_cache(spec: ModelSpec, file: str) -> str | None:
    """The path of a file in the hub's cache; empty if it is known that the model has none, ``None`` if not."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    kwargs = spec.model_kwargs
    inner = "/".join(filter(None, (kwargs.get("subfolder"), file)))
    found = try_to_load_from_cache(
        spec.model, inner, cache_dir=kwargs.get("cache_dir"), revision=kwargs.get("revision")
    )
    return "" if found is _CACHED_NO_EXIST else found
