"""Split files of prose and code into passages: paragraphs, and docstrings. Knows no vectors."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from echo_embeddings.errors import InputError

__all__ = ["SUFFIXES", "TARGET_WORDS", "Passage", "chunks", "docstrings", "find_files", "passages_of", "read_passages"]

#: Words of a passage, about: long enough to say something, short enough to be about one thing.
TARGET_WORDS = 120

_NAMED = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

# Scripts without spaces count a word a character: their paragraphs would otherwise be one word each.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")  # noqa: RUF001 - these are the marks meant
_RULE = re.compile(r"^\s*([=\-~^\"'`#*+_.:])\1{2,}\s*$")
_TITLE = re.compile(r"^#{1,6}\s+\S")
_FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True)
class Passage:
    """A piece of a file.

    Attributes:
        source: where it stands: ``path:line``, or ``path:qualified.name`` for a docstring.
        text: what is embedded and shown.
    """

    source: str
    text: str


@dataclass(frozen=True)
class _Block:
    """Consecutive lines; ``line`` is the number of the first, counted from 1."""

    line: int
    text: str
    heading: bool = False

    @property
    def words(self) -> int:
        return len(_WORD.findall(self.text))


def read_passages(root: Path) -> tuple[list[Passage], list[str]]:
    """Read all passages of a file, or of the readable files in a folder.

    Args:
        root: the file or folder.

    Returns:
        The passages, and for each file that had to be skipped the reason. A file asked for by name is never skipped.

    Raises:
        InputError: there is nothing to read.
    """
    if not root.is_dir():
        passages = passages_of(root, root.name)
        skipped: list[str] = []
    else:
        passages, skipped = [], []
        for path in find_files(root):
            try:
                passages += passages_of(path, path.relative_to(root).as_posix())
            except InputError as error:  # noqa: PERF203 - each file may be the bad one
                skipped.append(str(error))
    if not passages:
        hint = f" ({skipped[0]})" if skipped else ""
        raise InputError(f"{root} has no passages; index reads {', '.join(SUFFIXES)} files{hint}")
    return passages, skipped


def find_files(folder: Path) -> Iterator[Path]:
    """List the files that can be read, in a fixed order; hidden folders and caches are left out."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in ("__pycache__", "node_modules"):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from find_files(path)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            yield path


def passages_of(path: Path, name: str) -> list[Passage]:
    """Read the passages of one file.

    Args:
        path: the file.
        name: what it is called in their sources.

    Raises:
        InputError: its suffix is unknown, it is not UTF-8, or it is no Python.
        OSError: it cannot be read.
    """
    reader = SUFFIXES.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: the suffix {path.suffix!r} is unknown; index reads {', '.join(SUFFIXES)} files")
    try:
        return list(reader(path.read_bytes(), name))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason})") from error
    except (SyntaxError, ValueError) as error:  # ast says ValueError to NUL bytes
        raise InputError(f"{path} is not Python that this Python can read ({error})") from error


def docstrings(code: bytes, name: str) -> Iterator[Passage]:
    """Find the docstrings of a module, its classes and functions.

    The passage begins with the name of what it documents, as in ``Path.exists: Whether this path exists.``

    Args:
        code: the module's source.
        name: what the file is called in the passages' sources.

    Raises:
        SyntaxError: this Python cannot read the code.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as an invalid "\\d" in somebody else's docstring
        tree = ast.parse(code, filename=name)
    for qualified, node in _documented(tree, ""):
        text = ast.get_docstring(node)
        if not text:
            continue
        label = qualified or Path(name).stem
        for block in chunks(text.splitlines()):
            source = f"{name}:{qualified}" if qualified else f"{name}:{_first_line(node) + block.line - 1}"
            yield Passage(source, f"{label}: {block.text}")


def chunks(lines: Iterable[str], *, markdown: bool = False, target: int = TARGET_WORDS) -> Iterator[_Block]:
    """Split lines into blocks of about ``target`` words.

    Short paragraphs that follow each other are joined while they stay below the target. A paragraph that is longer is
    split into even pieces at the ends of lines and sentences. A heading begins a new block and stays with the text
    below it.

    Args:
        lines: the text.
        markdown: whether a line that begins with ``#`` is a heading; elsewhere that is a comment. A line with a rule
            under it is a heading in any case.
        target: words of a block.
    """
    waiting: list[_Block] = []
    for paragraph in _paragraphs(lines, markdown=markdown):
        for block in _pieces(paragraph, target):
            full = sum(b.words for b in waiting) + block.words > target
            only_headings = all(b.heading for b in waiting)
            if not only_headings and (full or block.heading):
                yield _joined(waiting)
                waiting = []
            waiting.append(block)
    if waiting:
        yield _joined(waiting)


def _prose(content: bytes, name: str) -> Iterator[Passage]:
    markdown = name.lower().endswith((".md", ".markdown"))
    for block in chunks(content.decode("utf-8-sig").splitlines(), markdown=markdown):
        yield Passage(f"{name}:{block.line}", block.text)


#: The function that reads each kind of file, by its suffix.
SUFFIXES: dict[str, Callable[[bytes, str], Iterator[Passage]]] = {
    ".txt": _prose,
    ".md": _prose,
    ".markdown": _prose,
    ".rst": _prose,
    ".py": docstrings,
}


def _documented(parent: ast.AST, prefix: str) -> Iterator[tuple[str, ast.Module | _NAMED]]:
    if isinstance(parent, ast.Module):
        yield "", parent
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, _NAMED):
            yield prefix + node.name, node
            yield from _documented(node, f"{prefix}{node.name}.")
        elif not isinstance(node, ast.expr):
            yield from _documented(node, prefix)  # a function may be defined under an if or a try


def _first_line(node: ast.Module | _NAMED) -> int:
    """Find the line on which the docstring's text begins: its cleaned form has lost the empty lines before that."""
    raw = ast.get_docstring(node, clean=False) or ""
    before = raw[: len(raw) - len(raw.lstrip())]
    return node.body[0].lineno + before.count("\n")


def _paragraphs(lines: Iterable[str], *, markdown: bool) -> Iterator[_Block]:
    """Split lines at blank lines. A heading is a block, and so is a fenced code block with its blank lines."""
    gathered: list[str] = []
    first, fenced = 0, False
    for number, line in enumerate(lines, start=1):
        fence = bool(_FENCE.match(line))
        rule = not (fenced or fence) and bool(_RULE.match(line))
        title = markdown and not fenced and bool(_TITLE.match(line))
        fenced ^= fence
        if gathered and (rule or title or not (fenced or fence or line.strip())):
            yield _Block(first, "\n".join(gathered), heading=rule and len(gathered) == 1)
            gathered = []
        if title:
            yield _Block(number, line.rstrip(), heading=True)
        elif fenced or fence or (line.strip() and not rule):
            first = first if gathered else number
            gathered.append(line.rstrip())
    if gathered:
        yield _Block(first, "\n".join(gathered))


def _joined(blocks: list[_Block]) -> _Block:
    return _Block(blocks[0].line, "\n\n".join(block.text for block in blocks))


def _pieces(paragraph: _Block, target: int) -> Iterator[_Block]:
    words = paragraph.words
    if words <= target:
        yield paragraph
        return
    goal = words / -(-words // target)
    gathered: list[tuple[int, str, str]] = []
    count = 0
    for atom in _atoms(paragraph, target):
        size = len(_WORD.findall(atom[1]))
        # Over or under the goal, whichever is nearer.
        if gathered and count + size / 2 > goal:
            yield _Block(gathered[0][0], _text(gathered))
            gathered, count = [], 0
        gathered.append(atom)
        count += size
    yield _Block(gathered[0][0], _text(gathered))


def _text(atoms: list[tuple[int, str, str]]) -> str:
    return "".join(text + end for _, text, end in atoms).rstrip()


def _atoms(paragraph: _Block, target: int) -> Iterator[tuple[int, str, str]]:
    """Split a paragraph into its smallest pieces: sentences within lines, or words where a sentence is too long."""
    for number, line in enumerate(paragraph.text.split("\n"), start=paragraph.line):
        ends = [*(match.end() for match in _SENTENCE_END.finditer(line)), len(line)]
        start = 0
        for end in dict.fromkeys(ends):
            sentence = line[start:end]
            breaks = [match.start() for match in list(_WORD.finditer(sentence))[target::target]]
            for a, b in zip([0, *breaks], [*breaks, len(sentence)], strict=True):
                if sentence[a:b]:
                    yield number, sentence[a:b], "\n" if start + b == len(line) else ""
            start = end
