"""What an experiment says: a finding in plain words, tables, pictures; and the page made of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from echo_embeddings.data.files import whole_file

__all__ = ["Section", "Table", "counted", "spread", "write"]


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Args:
        caption: what it shows, a sentence.
        header: the names of the columns.
        rows: cells; numbers stand with one decimal.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return f"{self.caption}\n\n" + "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


@dataclass(frozen=True)
class Section:
    """What one experiment found.

    Args:
        name: the name of its files, such as ``"structures"``.
        title: its heading.
        findings: paragraphs in plain words, one finding each. What does not hold on a model comes first.
        tables: its tables.
        figures: matplotlib figures by name; each becomes ``NAME-FIGURE.svg``, with its alternative text.
        first: tables that stand before the findings, because a reader looks for them.
    """

    name: str
    title: str
    findings: Sequence[str]
    tables: Sequence[Table] = ()
    figures: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    first: Sequence[Table] = ()


def write(sections: Sequence[Section], folder: Path, head: str) -> None:
    """Write ``README.md`` with all sections, and their pictures, which are equal byte by byte for equal values."""
    import matplotlib as mpl

    folder.mkdir(parents=True, exist_ok=True)
    parts = [head]
    # A dollar in the name of a model is no formula.
    with mpl.rc_context({"svg.hashsalt": "echo", "svg.fonttype": "none", "text.parse_math": False}):
        for section in sections:
            parts += [f"## {section.title}", *(table.markdown() for table in section.first), *section.findings]
            for name, (figure, words) in section.figures.items():
                picture = f"{section.name}-{name}.svg"
                with whole_file(folder / picture) as path:
                    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")
                parts.append(f"![{words}]({picture})")
            parts += [table.markdown() for table in section.tables]
    with whole_file(folder / "README.md") as path:
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def spread(values: Sequence[float], decimals: int = 1) -> str:
    """The mean of samples, with the least and the greatest: ``62.1 (60.4 to 63.0)``."""
    mean, least, most = (f"{value:.{decimals}f}" for value in (sum(values) / len(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({least} to {most})"


def counted(samples: Sequence[Any]) -> str:
    """How many samples there are, in words for a caption: ``one sample`` or ``3 samples``."""
    return "one sample" if len(samples) == 1 else f"{len(samples)} samples"


def _cell(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value).replace("|", "\\|")
