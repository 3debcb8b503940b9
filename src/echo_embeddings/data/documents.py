"""Take the text out of HTML and PDF files, with the place at which it stands. Knows no passages.

Both libraries are the extra ``documents``.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from echo_embeddings.errors import InputError
from echo_embeddings.extras import require

__all__ = ["Paragraph", "html_paragraphs", "pdf_pages", "require_library"]

_EXTRA = "documents"
_LIBRARIES = {".pdf": ("pypdf", "reading PDF"), ".html": ("bs4", "reading HTML")}
_LIBRARIES |= dict.fromkeys((".htm", ".xhtml"), _LIBRARIES[".html"])

# Elements that are no text of the page itself.
_LEFT_OUT = frozenset(("script", "style", "template", "noscript", "svg", "nav", "button", "select", "textarea"))
_HEADINGS = frozenset(("title", "h1", "h2", "h3", "h4", "h5", "h6"))
# Elements whose text stands on the line of what is around them; all others begin a paragraph.
_INLINE = frozenset(
    re.findall(
        r"\w+",
        "a abbr acronym b bdi bdo big br cite code data del dfn em font i img ins kbd label mark q rp rt ruby s samp "
        "small span strike strong sub sup time tt u var wbr",
    )
)
# Cells of a row belong together.
_CELLS = frozenset(("td", "th"))
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a page.

    Attributes:
        line: the line of the file on which its element begins, from 1.
        text: what it says.
        heading: whether it is a title or a heading.
    """

    line: int
    text: str
    heading: bool


def require_library(suffix: str) -> None:
    """Check that files of this suffix can be read here; most need nothing.

    Raises:
        ImportError: a library is missing; the message says what to install.
    """
    if suffix in _LIBRARIES:
        module, purpose = _LIBRARIES[suffix]
        require(module, _EXTRA, purpose)


def html_paragraphs(content: bytes) -> Iterator[Paragraph]:
    """The paragraphs of an HTML page: headings, list items, rows of tables and the like each on their own.

    Navigation, scripts and forms are left out. The encoding is the one that the page names, else it is guessed.

    Raises:
        InputError: the page cannot be read.
    """
    from bs4 import BeautifulSoup

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # XHTML is read like HTML
        try:
            page = BeautifulSoup(content, "html.parser")
        except Exception as error:  # its parser has no error of its own
            raise InputError(f"is no HTML that can be read ({error})") from error
    gathered: list[str] = []
    first, place = 1, None
    for text, line, around in _strings(page):
        if place is not None and around.block is not place.block:
            yield from _paragraph(gathered, first, place)
            gathered, place = [], None
        if place is None and text.strip():
            first, place = line, around
        if place is not None:
            gathered.append(text)
    if place is not None:
        yield from _paragraph(gathered, first, place)


@dataclass(frozen=True)
class _Open:
    """An element whose end has not come yet, and what it means for the text in it."""

    element: Any
    block: Any
    left_out: bool = False
    heading: bool = False
    verbatim: bool = False

    def inner(self, element: Any) -> _Open:
        name = element.name
        return _Open(
            element,
            self.block if name in _INLINE or name in _CELLS else element,
            self.left_out or name in _LEFT_OUT,
            self.heading or name in _HEADINGS,
            self.verbatim or name == "pre",
        )


def _strings(page: Any) -> Iterator[tuple[str, int, _Open]]:
    """Each text of a page, its line, and what is around it. In a loop: pages may be nested deeper than calls can be."""
    from bs4.element import NavigableString, Tag

    opened = [_Open(page, page)]
    line, row = 1, None
    for one in page.descendants:
        while opened[-1].element is not one.parent:
            opened.pop()
        around = opened[-1]
        if isinstance(one, Tag):
            line = one.sourceline or line
            opened.append(around.inner(one))
            if one.name == "br":
                yield "\n", line, around
            elif one.name in _CELLS:
                if one.parent is row:
                    yield " | ", line, around
                row = one.parent
        elif type(one) is NavigableString and not around.left_out:  # comments and the like are other types
            yield str(one), line, around


def _paragraph(gathered: list[str], line: int, place: _Open) -> Iterator[Paragraph]:
    text = "".join(gathered)
    text = text.strip("\n") if place.verbatim else _SPACE.sub(" ", text).strip(" |")
    if text.strip():
        yield Paragraph(line, text, place.heading)


def pdf_pages(content: bytes) -> Iterator[tuple[int, str]]:
    """The text of each page of a PDF file, with the page's number from 1; pages without text are left out.

    Raises:
        InputError: the file is damaged, or needs a password, or no page has text.
    """
    from pypdf import PdfReader

    found = False
    with _silent("pypdf"):
        try:
            reader = PdfReader(io.BytesIO(content))
            is_open = not reader.is_encrypted or bool(reader.decrypt(""))
            for number, page in enumerate(reader.pages if is_open else (), start=1):
                text = page.extract_text()
                if text.strip():
                    found = True
                    yield number, text
        except Exception as error:  # damaged files raise nearly everything
            raise InputError(f"is no PDF that can be read ({type(error).__name__}: {error})") from error
    if not is_open:
        raise InputError("needs a password; save a copy without one")
    if not found:
        raise InputError("has no text: its pages are pictures. Give it a text layer with an OCR program first")


@contextmanager
def _silent(library: str) -> Iterator[None]:
    """Keep a library's remarks off the screen: it mends what it can, and what it cannot is an error."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
