"""Write a loaded encoder to a folder from which it can be loaded again. Saving knows no text."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data.files import locked, whole_folder
from .errors import ConfigError
from .model import manifest

if TYPE_CHECKING:
    from echo_embeddings.engine.runtime import Runtime

__all__ = ["POOLING_MODES", "folder_at", "save", "write_modules", "written"]

#: The poolings of an ``EchoConfig`` that sentence-transformers' ``Pooling`` has too, and their names there. The module
#: of the others is in our package for sentence-transformers.
POOLING_MODES = {"last": "lasttoken", "mean": "mean", "weighted_mean": "weightedmean"}

# The files of a model, as transformers, peft, sentence-transformers and we write them. "*" is anything.
_OURS = (
    *("config.json", "generation_config.json", "model*.safetensors", "model*.safetensors.index.json"),
    *("pytorch_model*.bin", "pytorch_model*.index.json", "adapter_config.json", "adapter_model.*"),
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "spiece.model", "sentencepiece.*", "chat_template.*"),
    *("echo_config.json", "echo_transforms.safetensors", "echo_files.json"),
    *("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"),
)


def folder_at(path: str | os.PathLike[str]) -> Path:
    """The folder to write to; it need not exist yet.

    Raises:
        ConfigError: ``path`` is a file.
    """
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{os.fspath(path)!r} is a file; save_pretrained wants a folder to write to")
    return folder


def save(folder: Path, runtime: Runtime) -> None:
    """Write the weights (the layers that run, adapters merged), tokenizer, config, and sentence-transformers' files.

    The folder is written as a whole; see :func:`written`.

    Raises:
        ConfigError: the weights are in int8.
        InputError: another process is writing the folder.
    """
    from echo_embeddings.model.int8 import require_savable

    require_savable(runtime.backbone.model)
    with written(folder) as unfinished:
        _write(unfinished, runtime)


@contextmanager
def written(folder: Path, *, keeps_modules: bool = False) -> Iterator[Path]:
    """Give a folder to write a model to, which replaces ``folder`` at the end of the block.

    A process that dies leaves the old folder or the new one. Of the old one, files that no loader of a model knows are
    kept; older weights, tokenizers, configs and adapters are not. A folder that cannot be replaced (the working folder,
    or a mounted one) is emptied of ``config.json`` first, which comes back last; so it never loads half written.

    Args:
        folder: the folder.
        keeps_modules: whether sentence-transformers' own files are kept too.

    Raises:
        InputError: another process is writing the folder.
    """
    path = folder.resolve()

    def replaced(inner: Path) -> bool:
        return _is_ours(inner) and not (keeps_modules and _is_of_modules(inner))

    if path in (Path.cwd(), *Path.cwd().parents) or path.is_mount():
        with locked(path), tempfile.TemporaryDirectory(dir=path, prefix=".unfinished-") as work:
            unfinished = Path(work) / "model"
            unfinished.mkdir()
            yield unfinished
            _move_in(unfinished, path, replaced)
        return
    with whole_folder(path, keep=lambda inner: not replaced(inner)) as unfinished:
        yield unfinished


def _move_in(new: Path, path: Path, replaced: Callable[[Path], bool]) -> None:
    """Move the files of a folder into another one, where ``config.json`` is missing meanwhile."""
    (path / "config.json").unlink(missing_ok=True)
    for file in [file for file in path.rglob("*") if not file.is_relative_to(new.parent) and file.is_file()]:
        if replaced(file.relative_to(path)):
            file.unlink()
    for file in sorted(new.rglob("*"), key=lambda file: file == new / "config.json"):
        if file.is_file():
            target = path / file.relative_to(new)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def _is_ours(inner: Path) -> bool:
    """Whether a file of a model's folder, by its path in it, belongs to the model and not to the user."""
    if len(inner.parts) > 1:
        return re.fullmatch(r"\d+_\w+|(?:additional_)?chat_templates", inner.parts[0]) is not None
    return any(fnmatch(inner.name, pattern) for pattern in _OURS)


def _is_of_modules(inner: Path) -> bool:
    return inner.name in ("modules.json", "config_sentence_transformers.json") or inner.parts[0][:1].isdigit()


def _write(folder: Path, runtime: Runtime) -> None:
    layers = runtime.backbone.layers
    runtime.backbone.model.save_pretrained(folder)
    runtime.tokenizer.source.save_pretrained(folder)
    # Layers above the exit are not saved. In the smaller model, fractions and "the last layer" would be other layers.
    numbers = {"start_layer": layers.start, "exit_layer": layers.exit, "final_norm": layers.final_norm}
    saved = runtime.config.replace(packaged_adapter=None, **numbers)  # the adapter is merged into the weights
    saved.save(folder)
    manifest.mark(folder, saved.fingerprint())
    write_modules(folder, runtime.dimension, saved.pooling)
    manifest.write(folder, saved.fingerprint())


def write_modules(folder: Path, dimension: int, pooling: str) -> None:
    """Write the files with which ``SentenceTransformer(folder, trust_remote_code=True)`` loads ``folder``.

    sentence-transformers is not imported.

    Args:
        folder: the folder with weights, tokenizer and ``echo_config.json``.
        dimension: number of dimensions of a vector, transforms applied.
        pooling: the config's, such as ``"mean"``.
    """
    pools, pooled_by = "1_EchoPooling", "sentence_transformers_echo.pooling.EchoPooling"
    options: dict[str, Any] = {"pooling": pooling}
    if pooling in POOLING_MODES:
        pools, pooled_by = "1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
        mode = POOLING_MODES[pooling]
        options = {"embedding_dimension": dimension, "pooling_mode": mode, "include_prompt": True}
    types = {
        "": "sentence_transformers_echo.module.EchoModule",
        pools: pooled_by,
        "2_Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    }
    keys = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    reason = (
        "its EchoModule lets the model read a text twice; install it from a checkout of echo-embeddings: "
        "pip install . ./integrations/sentence-transformers"
    )
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(types.items())
        ],
        "config_sentence_transformers.json": {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
            "requirements": {"sentence-transformers-echo": {"specifier": ">=0.1", "reason": reason}},
        },
        f"{pools}/config.json": options,
        "2_Normalize/config.json": keys,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
