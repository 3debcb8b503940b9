"""Checkpoints that are whole: written beside their place and renamed, with the digest of each file, checked on reading.

transformers' trainer writes the files of a checkpoint into its folder one after another, and takes the newest folder on
resuming, whatever is in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from echo_embeddings.data.files import remove, whole_folder

__all__ = ["job_in", "last", "written"]

_NAME = re.compile(r"checkpoint-\d+")
#: The digests of all other files of a checkpoint, by their paths in it; written last.
_DIGESTS = "digests.json"
#: What the job was.
_JOB = "job.json"

logger = logging.getLogger(__name__)


@contextmanager
def written(folder: Path, keep: int, job: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Give a folder to write a checkpoint to, which becomes ``folder`` at the end of the block.

    Args:
        folder: the checkpoint, such as ``checkpoints/checkpoint-100``.
        keep: how many checkpoints may stand there afterwards; older ones are removed.
        job: what the checkpoint depends on, for :func:`job_in`.
    """
    with whole_folder(folder) as unfinished:
        yield unfinished
        (unfinished / _JOB).write_text(json.dumps(dict(job or {}), indent=1), encoding="utf-8")
        (unfinished / _DIGESTS).write_text(json.dumps(_digests(unfinished), indent=1), encoding="utf-8")
    for old in _found(folder.parent)[keep:]:
        remove(old)


def last(checkpoints: Path) -> Path | None:
    """The last checkpoint that is whole; ``None`` if there is none. What is not whole is removed, and said."""
    for left in checkpoints.glob(".checkpoint-*"):  # a killed process was writing it
        if left.is_dir():
            remove(left)
        else:
            left.unlink(missing_ok=True)
    found = _found(checkpoints)
    whole = {folder: _is_whole(folder) for folder in found}
    start = next((folder for folder in found if whole[folder]), None)
    for folder in found:
        if not whole[folder]:
            goes_on = "begins anew" if start is None else f"goes on from {start.name}"
            logger.warning("%s is not whole and is removed; training %s", folder, goes_on)
            remove(folder)
    return start


def job_in(folder: Path) -> dict[str, Any]:
    """The job of a whole checkpoint, as it was given to :func:`written`."""
    job: dict[str, Any] = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    return job


def _found(checkpoints: Path) -> list[Path]:
    """The folders of checkpoints, last step first."""
    folders = [folder for folder in checkpoints.glob("checkpoint-*") if _NAME.fullmatch(folder.name)]
    return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]), reverse=True)


def _is_whole(folder: Path) -> bool:
    try:
        wanted = json.loads((folder / _DIGESTS).read_text(encoding="utf-8"))
        return bool(wanted == _digests(folder))
    except (OSError, ValueError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _DIGESTS:
            sha = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(2**20):
                    sha.update(block)
            found[path.relative_to(folder).as_posix()] = sha.hexdigest()
    return found
