"""Split files into passages: paragraphs of prose, HTML and PDF, docstrings of code. Knows no vectors."""

from __future__ import annotations

import ast
import re
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from echo_embeddings.errors import InputError

from .documents import html_paragraphs, pdf_pages, require_library
from .words import PHRASED, WORD

__all__ = [
    "SUFFIXES",
    "TARGET_WORDS",
    "Listing",
    "Passage",
    "chunks",
    "docstrings",
    "find_files",
    "listing",
    "no_passages",
    "passages_in",
    "passages_of",
    "read_file",
    "read_passages",
    "reason",
]

#: Words of a passage, about: long enough to say something, short enough to be about one thing.
TARGET_WORDS = 120

_NAMED = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

_SENTENCE_END = re.compile(rf"(?<=[.!?])\s+|(?<=[。！？។။།])|(?<=[{PHRASED}])\s+(?=[{PHRASED}])")  # noqa: RUF001 - these are the marks meant
_RULE = re.compile(r"^\s*([=\-~^\"'`#*+_.:])\1{2,}\s*$")
_TITLE = re.compile(r"^#{1,6}\s+\S")
_FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True)
class Passage:
    """A piece of a file.

    Attributes:
        source: where it stands: ``path:line``, ``path:qualified.name`` for a docstring, ``path:page 3`` for a PDF.
            Bytes of a path that are no UTF-8 are lone surrogates in it, as everywhere in Python (``os.fsdecode``).
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
        return len(WORD.findall(self.text))


@dataclass(frozen=True)
class Listing:
    """What is in a folder.

    Attributes:
        files: the files that can be read, by what they are called in sources, in a fixed order.
        others: how many files there are that cannot be read, by suffix; ``""`` for those without one.
        skipped: for each folder and each kind of file that cannot be read now, the reason.
    """

    files: dict[str, Path] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)


def read_passages(root: Path) -> tuple[list[Passage], list[str]]:
    """Read all passages of a file, or of the readable files in a folder.

    Args:
        root: the file or folder.

    Returns:
        The passages, and for each file that had to be skipped the reason. A file asked for by name is never skipped.

    Raises:
        InputError: there is nothing to read.
    """
    found = listing(root)
    passages, skipped = [], list(found.skipped)
    for name, path in found.files.items():
        try:
            passages += passages_of(path, name)
        except (InputError, OSError) as error:  # noqa: PERF203 - each file may be the bad one
            if path is root:
                raise
            skipped.append(reason(error))
    if not passages:
        raise no_passages(root, skipped)
    return passages, skipped


def reason(error: InputError | OSError) -> str:
    """Why a file is skipped, in one sentence with its name."""
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)


def no_passages(root: Path, skipped: list[str]) -> InputError:
    """Say that there is nothing to read in a file or folder, with the first reason why a file was skipped."""
    hint = f" ({skipped[0]})" if skipped else ""
    return InputError(f"{root} has no passages; index reads {', '.join(SUFFIXES)} files{hint}")


def listing(root: Path) -> Listing:
    """List what is in a folder; hidden files and folders, and caches, are left out. A file is listed alone.

    Raises:
        InputError: the file is of a kind that cannot be read.
        ImportError: the file needs a library that is not installed.
        OSError: there is nothing of that name.
    """
    found = Listing()
    if not root.is_dir():
        root.stat()  # the system's own message if there is nothing
        _require_suffix(root)
        require_library(root.suffix.lower())
        found.files[root.name] = root
        return found
    waiting = [root]
    while waiting:  # no recursion: folders may be nested deeper than calls
        path = waiting.pop()
        if path is root or (path.is_dir() and not path.is_symlink()):
            try:
                inner = sorted(path.iterdir(), reverse=True)
            except OSError as error:
                found.skipped.append(f"{path}: {error.strerror}")
            else:
                waiting += [one for one in inner if not _is_hidden(one.name)]
        elif path.is_file():
            _list(found, path, path.relative_to(root).as_posix())
    for suffix, number in found.others.items():
        try:
            require_library(suffix)
        except ImportError as error:  # noqa: PERF203 - there are few suffixes
            found.skipped.append(f"{number} {suffix} file(s): {error}")
    return found


def _list(found: Listing, path: Path, name: str) -> None:
    suffix = path.suffix.lower()
    try:
        require_library(suffix)
    except ImportError:
        found.others[suffix] += 1
        return
    if suffix in SUFFIXES:
        found.files[name] = path
    else:
        found.others[suffix] += 1


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__pycache__", "node_modules")


def find_files(folder: Path) -> Iterator[Path]:
    """List the files that can be read, in a fixed order; hidden folders and caches are left out."""
    yield from listing(folder).files.values()


def passages_of(path: Path, name: str) -> list[Passage]:
    """Read the passages of one file.

    Args:
        path: the file.
        name: what it is called in their sources.

    Raises:
        InputError: its suffix is unknown, or its content is not what the suffix says.
        ImportError: a library that this kind of file needs is not installed.
        OSError: it cannot be read.
    """
    _require_suffix(path)
    return passages_in(read_file(path), path, name)


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it is no file, but a pipe, for example, which would be waited for without end.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path} is no regular file; give a file or a folder")
    return path.read_bytes()


def passages_in(content: bytes, path: Path, name: str) -> list[Passage]:
    """Split the content of a file into passages.

    Args:
        content: all of it.
        path: where the file is; the suffix says how to read it.
        name: what it is called in the passages' sources.

    Raises:
        InputError: the content is not what the suffix says.
        ImportError: a library that this kind of file needs is not installed.
    """
    suffix = path.suffix.lower()
    require_library(suffix)
    try:
        passages = list(SUFFIXES[suffix](content, name))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason})") from error
    except InputError as error:
        raise InputError(f"{path} {error}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # ast says ValueError to NUL bytes
        language = "Python that this Python" if suffix == ".py" else f"{suffix} text that one"
        raise InputError(f"{path} is not {language} can read ({error})") from error
    return [Passage(passage.source, _sound(passage.text)) for passage in passages]


def _sound(text: str) -> str:
    """Spell out lone surrogates: no tokenizer takes them. A string of Python may have one, or the name of a file."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _require_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: the suffix {path.suffix!r} is unknown; index reads {', '.join(SUFFIXES)} files")


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
    yield from _grouped(_paragraphs(lines, markdown=markdown), target)


def _grouped(paragraphs: Iterable[_Block], target: int) -> Iterator[_Block]:
    waiting: list[_Block] = []
    words, only_headings = 0, True
    for paragraph in paragraphs:
        for block in _pieces(paragraph, target):
            full = words + block.words > target
            if (full or not only_headings) if block.heading else (full and not only_headings):
                if waiting:
                    yield _joined(waiting)
                waiting, words, only_headings = [], 0, True
            waiting.append(block)
            words, only_headings = words + block.words, only_headings and block.heading
    if waiting:
        yield _joined(waiting)


def _prose(content: bytes, name: str) -> Iterator[Passage]:
    markdown = name.lower().endswith((".md", ".markdown"))
    for block in chunks(content.decode("utf-8-sig").splitlines(), markdown=markdown):
        yield Passage(f"{name}:{block.line}", block.text)


def _html(content: bytes, name: str) -> Iterator[Passage]:
    paragraphs = (_Block(found.line, found.text, found.heading) for found in html_paragraphs(content))
    for block in _grouped(paragraphs, TARGET_WORDS):
        yield Passage(f"{name}:{block.line}", block.text)


def _pdf(content: bytes, name: str) -> Iterator[Passage]:
    for number, text in pdf_pages(content):
        for block in chunks(text.splitlines()):
            yield Passage(f"{name}:page {number}", block.text)


#: The function that reads each kind of file, by its suffix.
SUFFIXES: dict[str, Callable[[bytes, str], Iterator[Passage]]] = {
    ".txt": _prose,
    ".md": _prose,
    ".markdown": _prose,
    ".rst": _prose,
    ".py": docstrings,
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".pdf": _pdf,
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
        size = len(WORD.findall(atom[1]))
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
            breaks = [match.start() for match in list(WORD.finditer(sentence))[target::target]]
            for a, b in zip([0, *breaks], [*breaks, len(sentence)], strict=True):
                if sentence[a:b]:
                    yield number, sentence[a:b], "\n" if start + b == len(line) else ""
            start = end
