"""Find out which files of a folder an index has, and what became of them since. Knows no vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from echo_embeddings.data.passages import Passage, listing, no_passages, passages_in, read_file, reason
from echo_embeddings.errors import InputError

from .storage import Origin

__all__ = ["Plan", "Update", "plan"]


@dataclass(frozen=True)
class Update:
    """What :meth:`Index.update` found. Files are called as in the sources of passages.

    Attributes:
        new: files that the index did not have.
        changed: files whose content is another one.
        removed: files that are no longer there, or can no longer be read.
        unchanged: how many files are as they were; their vectors were kept.
        skipped: for each file that could not be read the reason.
        others: how many files there are of each suffix that is not read; ``""`` for files without one.
    """

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    skipped: list[str] = field(default_factory=list)
    others: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What :meth:`Index.update` will do.

    Attributes:
        before: what the index had, in the order of its rows.
        kept: the origins that stay, with their rows in the index.
        fresh: the files to embed, with their passages.
        update: the same for people.
    """

    before: list[Origin]
    kept: list[tuple[Origin, range]]
    fresh: list[tuple[Origin, list[Passage]]]
    update: Update

    @property
    def passages(self) -> list[Passage]:
        """All passages to embed."""
        return [passage for _, passages in self.fresh for passage in passages]

    @property
    def changes_nothing(self) -> bool:
        """Whether the index has all files as they are."""
        return not self.fresh and self.keeps_all

    @property
    def keeps_all(self) -> bool:
        """Whether no row of the index is dropped."""
        return not self.update.changed and not self.update.removed


def plan(root: Path, origins: Sequence[Origin]) -> Plan:
    """Compare a folder with what an index has of it. Only files that are new or changed are split into passages.

    Args:
        root: a folder, or one file.
        origins: what the index has, in the order of its rows.

    Raises:
        InputError: there is nothing to read; or a file that was asked for by name cannot be read, or is not all that
            the index is made of.
        ImportError: a file that was asked for by name needs a library that is not installed.
        OSError: there is nothing of that name.
    """
    found = listing(root)
    skipped = list(found.skipped)
    known = {origin.name: origin for origin in origins if origin.name is not None}
    same: set[str] = set()
    fresh: list[tuple[Origin, list[Passage]]] = []
    for name, path in found.files.items():
        try:
            content = read_file(path)
            digest = hashlib.sha256(content).hexdigest()
            if name in known and known[name].digest == digest:
                same.add(name)
                continue
            passages = passages_in(content, path, name)
        except (InputError, OSError) as error:
            if path is root:
                raise
            skipped.append(reason(error))
        else:
            fresh.append((Origin(len(passages), name, digest), passages))
    ends = accumulate(origin.passages for origin in origins)
    rows = [range(end - origin.passages, end) for origin, end in zip(origins, ends, strict=True)]
    kept = [pair for pair in zip(origins, rows, strict=True) if pair[0].name is None or pair[0].name in same]
    if not any(origin.passages for origin, _ in [*kept, *fresh]):
        raise no_passages(root, skipped)
    names = {str(origin.name): None for origin, _ in fresh}
    update = Update(
        new=[name for name in names if name not in known],
        changed=[name for name in names if name in known],
        removed=[name for name in known if name not in same and name not in names],
        unchanged=len(same),
        skipped=skipped,
        others=dict(found.others),
    )
    if update.removed and not root.is_dir():
        raise InputError(
            f"{root} is one file, and an update with it would drop all others from the index, such as "
            f"{update.removed[0]!r}; give the folder that the index was made of, or make an index of that file alone"
        )
    return Plan(list(origins), kept, fresh, update)
