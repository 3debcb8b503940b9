"""What counts as a word, in any script. Knows strings only."""

from __future__ import annotations

import re
import unicodedata
from itertools import islice

__all__ = ["PHRASED", "WORD", "ends_of_words"]

# Scripts whose words are not parted by spaces. Of those in the first line a character counts as a word (Korean too, of
# which a syllable is about a token). In those of the second a word has about four characters and their marks, and a
# space ends a phrase: Thai, Lao, Tibetan (with its sign between syllables, U+0F0B), Myanmar, Khmer.
_BY_CHARACTER = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_BY_FOUR = [chr(code) for first, stop in ((0x0E00, 0x10A0), (0x1780, 0x1800)) for code in range(first, stop)]
_MARKS = "".join(one for one in _BY_FOUR if unicodedata.category(one).startswith("M") or one in "\u0f0b\u0f0c")
_BASES = "".join(one for one in _BY_FOUR if unicodedata.category(one)[0] in "LN")

#: A character of a script in which a space ends a phrase, for a class of characters in a regular expression.
PHRASED = _BASES + _MARKS
#: A word: what stands between spaces; without spaces a character, or four with their marks, as the script is.
WORD = re.compile(
    f"[{_BY_CHARACTER}]|(?:[{_BASES}][{_MARKS}]*){{1,4}}\u200b?|[{_MARKS}]+|[^\\s{_BY_CHARACTER}{_BASES}{_MARKS}]+"
)


def ends_of_words(text: str, most: int) -> list[int]:
    """Last-plus-one character of each of the first words of a text."""
    return [match.end() for match in islice(WORD.finditer(text), most)]
