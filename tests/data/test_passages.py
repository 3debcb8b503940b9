"""Where files are split into passages. No model."""

import os
import subprocess
import unicodedata
from pathlib import Path

import pytest

from echo_embeddings.data.passages import Passage, chunks, find_files, listing, passages_of, read_passages
from echo_embeddings.errors import InputError


def split(text, **options):
    return [(block.line, block.text) for block in chunks(text.splitlines(), **options)]


def test_short_neighbouring_paragraphs_are_joined():
    assert split("One.\n\nTwo.\n\n\nThree.") == [(1, "One.\n\nTwo.\n\nThree.")]


def test_a_paragraph_that_would_pass_the_target_begins_a_block():
    text = "a b c d\n\ne f g h\n\ni j"
    assert split(text, target=8) == [(1, "a b c d\n\ne f g h"), (5, "i j")]


def test_a_long_paragraph_is_split_into_even_pieces_at_sentence_ends():
    text = "One two three four. Five six seven eight. Nine ten eleven twelve. A b c d."
    pieces = [piece for _, piece in split(text, target=8)]
    assert pieces == ["One two three four. Five six seven eight.", "Nine ten eleven twelve. A b c d."]


def test_a_long_paragraph_of_lines_keeps_their_numbers():
    text = "intro\n\n" + "\n".join(f"line {i} has five words" for i in range(6))
    assert split(text, target=10)[-1] == (7, "line 4 has five words\nline 5 has five words")


def test_a_sentence_without_end_is_split_between_words():
    pieces = [piece for _, piece in split(" ".join(f"w{i}" for i in range(25)), target=10)]
    assert [len(piece.split()) for piece in pieces] == [10, 10, 5]
    assert " ".join(pieces).split() == [f"w{i}" for i in range(25)]


def test_a_script_without_spaces_counts_a_word_a_character():
    text = "これは長い文です。" * 30
    pieces = [piece for _, piece in split(text)]
    assert "".join(pieces) == text
    assert len(pieces) == 3


@pytest.mark.parametrize(
    "sentence",
    [
        "เรือเฟอร์รี่ออกจากเกาะตอนรุ่งสาง",
        "ເຮືອອອກຈາກເກາະຕອນເຊົ້າ",
        "សាឡាងចេញពីកោះនៅពេលព្រលឹម",
        "ကူးတို့သင်္ဘောသည်ကျွန်းမှထွက်သည်",
        "ཉི་མ་ཤར་སོང་གྲུ་གཟིངས་ཐོན་སོང་",
    ],
    ids=["Thai", "Lao", "Khmer", "Myanmar", "Tibetan"],
)
def test_a_script_whose_spaces_part_phrases_is_split_at_them(sentence):
    text = " ".join([sentence] * 60)
    pieces = [piece for _, piece in split(text)]
    assert " ".join(pieces) == text
    assert len(pieces) >= 2
    assert max(map(len, pieces)) < 1200


def test_a_thai_phrase_without_end_is_split_between_characters_and_not_before_a_mark():
    text = "ที่นี่" * 500
    pieces = [piece for _, piece in split(text)]
    assert "".join(pieces) == text
    assert len(pieces) > 1
    assert not any(unicodedata.category(piece[0]).startswith("M") for piece in pieces)


def test_nothing_is_lost_or_repeated():
    text = "\n\n".join(f"Paragraph {i}. " + "It goes on. " * i for i in range(60))
    assert " ".join(piece for _, piece in split(text)).split() == text.split()


def test_an_underlined_heading_begins_a_block_and_loses_its_rule():
    text = "Intro.\n\nPrices\n------\n\nNine crowns.\n"
    assert split(text) == [(1, "Intro."), (3, "Prices\n\nNine crowns.")]


def test_a_markdown_heading_begins_a_block_even_without_a_blank_line():
    text = "# Bread\nFlour.\n## Baking\nHot.\n"
    assert split(text, markdown=True) == [(1, "# Bread\n\nFlour."), (3, "## Baking\n\nHot.")]
    assert split(text) == [(1, text.rstrip())]


def test_a_heading_stays_with_a_paragraph_that_is_too_long_for_both():
    lines = ["# One", "", "## Two", "", "a " * 9, "", "b " * 9]
    assert [block.text for block in chunks(lines, markdown=True, target=10)] == [
        "# One\n\n## Two\n\n" + ("a " * 9).strip(),
        ("b " * 9).strip(),
    ]


def test_a_fenced_block_is_one_paragraph_and_its_comments_are_no_headings():
    text = "Run:\n\n```sh\n# first\n\n# second\n```\n"
    assert split(text, markdown=True) == [(1, "Run:\n\n```sh\n# first\n\n# second\n```")]


def test_docstrings_of_module_class_and_function(tmp_path):
    code = (
        '#!/usr/bin/env python\n"""Tools for tides."""\n\n\n'
        'class Tide:\n    """\n    A tide.\n    """\n\n'
        '    def high(self):\n        """The next high water."""\n\n'
        '        def inner():\n            """Within."""\n\n\n'
        'if True:\n    async def low():\n        r"""A \\d."""\n\n\ndef silent():\n    pass\n'
    )
    path = tmp_path / "tide.py"
    path.write_text(code)
    assert passages_of(path, "lib/tide.py") == [
        Passage("lib/tide.py:2", "tide: Tools for tides."),
        Passage("lib/tide.py:Tide", "Tide: A tide."),
        Passage("lib/tide.py:Tide.high", "Tide.high: The next high water."),
        Passage("lib/tide.py:Tide.high.inner", "Tide.high.inner: Within."),
        Passage("lib/tide.py:low", "low: A \\d."),
    ]


def test_a_module_docstring_that_is_split_names_the_line_of_each_piece(tmp_path):
    path = tmp_path / "long.py"
    path.write_text('"""\nBegins.\n\n' + "word " * 119 + "\n\nEnds here, after many words.\n" + '"""\n')
    assert [passage.source for passage in passages_of(path, "long.py")] == ["long.py:2", "long.py:6"]


def test_invalid_escapes_in_foreign_code_are_no_concern(tmp_path):
    path = tmp_path / "old.py"
    path.write_text('"""Digits: \\d."""\n')
    assert passages_of(path, "old.py") == [Passage("old.py:1", "old: Digits: \\d.")]


@pytest.mark.parametrize("name", [".hidden/a.md", "__pycache__/a.py", "node_modules/x/README.md", "image.png"])
def test_what_is_left_out(tmp_path, name):
    for file in (name, "b.txt", "sub/a.rst"):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Text.")
    assert [path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path)] == ["b.txt", "sub/a.rst"]


def test_in_a_folder_unreadable_files_are_skipped_and_named(tmp_path):
    (tmp_path / "good.md").write_text("Good.")
    (tmp_path / "bad.py").write_text("def (")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    passages, skipped = read_passages(tmp_path)
    assert passages == [Passage("good.md:1", "Good.")]
    assert [reason.split("/")[-1][:22] for reason in skipped] == [
        "bad.py is not Python t",
        "latin.txt is not UTF-8",
    ]


def test_a_file_asked_for_by_name_is_not_skipped(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8 \(invalid continuation byte|unexpected end"):
        read_passages(path)


def test_an_unknown_suffix_says_what_is_read(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"PNG")
    with pytest.raises(
        InputError, match=r"the suffix '\.png' is unknown; index reads \.txt, \.md, \.markdown, \.rst, \.py"
    ):
        read_passages(path)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(InputError, match=r"pipe\.md is no regular file; give a file or a folder"):
        read_passages(tmp_path / "pipe.md")
    (tmp_path / "a.txt").write_text("Text.")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    assert [p.source for p in read_passages(tmp_path)[0]] == ["a.txt:1"]


def test_folders_may_be_nested_deeper_than_calls(tmp_path):
    before = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1200):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.txt").write_text("Deep.")
        os.chdir(tmp_path)
        assert [p.text for p in read_passages(Path())[0]] == ["Deep."]
    finally:
        os.chdir(before)
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest's own way gives up at this depth


def test_files_that_are_not_read_are_counted_by_suffix(tmp_path):
    for name in ("a.md", "b.png", "c.PNG", "LICENSE", ".hidden", "sub/d.docx", ".git/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Text.")
    found = listing(tmp_path)
    assert list(found.files) == ["a.md"]
    assert found.others == {".png": 2, "": 1, ".docx": 1}


def test_many_headings_are_not_one_passage():
    blocks = split("\n".join(f"# Heading {i}" for i in range(20_000)), markdown=True)
    assert max(len(text.split()) for _, text in blocks) <= 120
    assert sum(len(text.split()) for _, text in blocks) == 60_000


def test_a_folder_with_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match=r"has no passages; index reads \.txt"):
        read_passages(tmp_path)
