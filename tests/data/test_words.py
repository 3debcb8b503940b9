"""What counts as a word, in scripts with spaces and without."""

import pytest

from echo_embeddings.data.words import WORD, ends_of_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The ferry, at 6:30\tleaves\n", ["The", "ferry,", "at", "6:30", "leaves"]),
        ("渡轮 leaves 港口", ["渡", "轮", "leaves", "港", "口"]),
        ("東京でUTF-8を", ["東", "京", "で", "UTF-8", "を"]),
        ("배가 떠난다", ["배", "가", "떠", "난", "다"]),
        ("ที่นี่ดีมาก", ["ที่นี่ดีม", "าก"]),  # four letters and their marks
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("𠀀𠀁", ["𠀀", "𠀁"]),
        ("👩‍👩‍👧 🚢🚢", ["👩‍👩‍👧", "🚢🚢"]),
        (" \n", []),
    ],
)
def test_words(text, words):
    assert WORD.findall(text) == words
    assert ends_of_words(text, 2) == [match.end() for match in WORD.finditer(text)][:2]
