"""Text of HTML and PDF files, and the places at which it stands. The files are written here. No model."""

import logging

import pytest

from echo_embeddings import extras
from echo_embeddings.data.documents import html_paragraphs, pdf_pages
from echo_embeddings.data.passages import Passage, listing, passages_of, read_passages
from echo_embeddings.errors import InputError

HTML = """<!DOCTYPE html>
<html><head><title>Ferries</title><style>p {}</style><script>let p = "<p>no";</script></head>
<body><nav><a href="/">Home</a></nav>
<h1>When the <em>boat</em>
sails</h1>
<p>At   dawn,<br>and at <b>noon</b>. <!-- not this --></p>
<div>Before <p>within</p> after</div>
<ul><li>one</li><li>two &amp; three</li></ul>
<pre>def f():
    return 1
</pre>
<table><tr><th>day</th><th>hour</th></tr>
<tr><td>Monday</td><td><b>9</b></td></tr></table>
</body></html>
"""


def pdf(*pages, encrypted=None):
    """A PDF file with a line of text on each page; ``None`` is a page without text."""
    import io

    from pypdf import PdfReader, PdfWriter

    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects += [f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode()]
    objects += [b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    for i, text in enumerate(pages):
        lines = b"" if text is None else b" 0 -14 Td ".join(b"(%s) Tj" % line.encode() for line in text.split("\n"))
        content = b"BT /F1 12 Tf 72 720 Td " + lines + b" ET"
        objects += [
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
            % (5 + 2 * i),
            b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        ]
    body, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    body += b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        table,
        len(objects) + 1,
        len(body),
    )
    if encrypted is None:
        return body
    writer, out = PdfWriter(clone_from=PdfReader(io.BytesIO(body))), io.BytesIO()
    writer.encrypt(user_password=encrypted, owner_password="owner", algorithm="RC4-128")
    writer.write(out)
    return out.getvalue()


def test_a_page_of_html():
    found = [(p.line, p.text, p.heading) for p in html_paragraphs(HTML.encode())]
    assert found == [
        (2, "Ferries", True),
        (4, "When the boat sails", True),
        (6, "At dawn, and at noon.", False),
        (7, "Before", False),
        (7, "within", False),
        (7, "after", False),
        (8, "one", False),
        (8, "two & three", False),
        (9, "def f():\n    return 1", False),
        (12, "day | hour", False),
        (13, "Monday | 9", False),
    ]


def test_the_encoding_is_the_one_that_the_page_names():
    page = '<meta charset="iso-8859-2"><p>Zażółć gęślą jaźń</p>'
    assert [p.text for p in html_paragraphs(page.encode("iso-8859-2"))] == ["Zażółć gęślą jaźń"]
    assert [p.text for p in html_paragraphs(b'<?xml version="1.0"?><html><p>XHTML</p></html>')] == ["XHTML"]


@pytest.mark.parametrize("tag", ["div", "b", "td"])
def test_a_page_that_is_nested_deeper_than_calls_can_be(tag):
    page = f"<{tag}>" * 20_000 + "deep" + f"</{tag}>" * 20_000
    assert [p.text for p in html_paragraphs(page.encode())] == ["deep"]


def test_passages_of_html_begin_at_headings(tmp_path):
    path = tmp_path / "a.HTML"
    path.write_text("<h1>One</h1>\n<p>First.</p>\n<p>Second.</p>\n<h2>Two</h2>\n<p>Third.</p>")
    assert passages_of(path, "a.HTML") == [
        Passage("a.HTML:1", "One\n\nFirst.\n\nSecond."),
        Passage("a.HTML:4", "Two\n\nThird."),
    ]


def test_passages_of_a_pdf_name_the_page(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf("The ferry leaves\nat dawn.", None, "Bread."))
    assert passages_of(path, "sub/a.pdf") == [
        Passage("sub/a.pdf:page 1", "The ferry leaves\nat dawn."),
        Passage("sub/a.pdf:page 3", "Bread."),
    ]


def test_a_pdf_with_an_empty_password_is_read():
    assert list(pdf_pages(pdf("Bread.", encrypted=""))) == [(1, "Bread.")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pdf("Bread.", encrypted="secret"), "needs a password; save a copy without one"),
        (pdf(None, None), "has no text: its pages are pictures. Give it a text layer with an OCR program first"),
        (b"", r"is no PDF that can be read \(EmptyFileError"),
        (b"%PDF-1.4\nnothing", r"is no PDF that can be read"),
        (pdf("Bread.")[:200], "is no PDF that can be read|has no text"),
        (pdf("Bread.").replace(b"/Kids", b"/Kidz"), "is no PDF that can be read|has no text"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_named(tmp_path, capfd, content, message):
    path = tmp_path / "bad.pdf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.pdf (" + message + ")"):
        passages_of(path, "bad.pdf")
    (tmp_path / "good.txt").write_text("Good.")
    passages, skipped = read_passages(tmp_path)
    assert [p.text for p in passages] == ["Good."]
    assert len(skipped) == 1
    assert capfd.readouterr() == ("", "")  # pypdf's remarks
    assert logging.getLogger("pypdf").level == logging.NOTSET


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    find = extras.importlib.util.find_spec
    monkeypatch.setattr(
        extras.importlib.util, "find_spec", lambda name: None if name in ("pypdf", "bs4") else find(name)
    )
    for name in ("a.pdf", "b.pdf", "c.htm", "d.txt"):
        (tmp_path / name).write_text("Text.")
    found = listing(tmp_path)
    assert list(found.files) == ["d.txt"]
    assert found.others == {".pdf": 2, ".htm": 1}
    assert found.skipped[0].startswith("2 .pdf file(s): reading PDF needs pypdf")
    assert "documents" in found.skipped[1]
    assert [p.text for p in read_passages(tmp_path)[0]] == ["Text."]
    with pytest.raises(ImportError, match="reading PDF needs pypdf.*documents"):
        read_passages(tmp_path / "a.pdf")
