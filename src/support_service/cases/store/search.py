"""Words of a case's texts, folded for search."""

import re
import unicodedata
from itertools import filterfalse

MAX_SEARCH_WORD_LENGTH = 64  # letters of a word that are searchable
# Bytes of a case's words in the search index. This is enough for the longest text in any script, at three parts of
# three bytes per letter. A limit is necessary because some characters expand to up to 18 letters, and PostgreSQL
# accepts at most 1 MiB, to which each word adds five bytes.
MAX_SEARCH_TEXT_BYTES = 640 * 1024


def search_text(*texts: str | None) -> str:
    """Return the search words of the texts, separated by spaces, cut to `MAX_SEARCH_TEXT_BYTES`."""
    return " ".join(search_words(*texts)).encode()[:MAX_SEARCH_TEXT_BYTES].decode(errors="ignore")


def search_words(*texts: str | None) -> list[str]:
    """Return the words of the texts, folded for search: lower case, without diacritics ("Đơn hàng": don, hang).

    Each word is cut to `MAX_SEARCH_WORD_LENGTH` letters.
    """
    bare = " ".join(filter(None, texts))
    if not bare.isascii():
        # Marks are also removed before NFKD, which would sort a long run of them for seconds.
        bare = _without_marks(unicodedata.normalize("NFKD", _without_marks(bare))[:MAX_SEARCH_TEXT_BYTES])
    # Lower case comes after NFKD, which turns letters without a lower case, such as ᴺ, into capitals.
    folded = bare.casefold().replace("đ", "d")
    return [word[:MAX_SEARCH_WORD_LENGTH] for word in re.findall(r"[^\W_]+", folded)]


def _without_marks(text: str) -> str:
    return "".join(filterfalse(unicodedata.combining, text))
