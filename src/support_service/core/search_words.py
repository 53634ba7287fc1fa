"""Words of texts, folded for search, and search queries made of them."""

import re
import unicodedata
from functools import lru_cache
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


def search_query(q: str) -> str | None:
    """Return a query for the words and "quoted phrases" of `q`, or None if it has no word.

    The query has the form `"late" + "parcel" AND "vienn"*`: terms joined by AND, the words of a phrase joined by +. All
    terms must match. A star follows a word that also matches longer words: the last one of `q`, unless it is quoted.
    """
    terms = []
    for number, part in enumerate(q.split('"')):
        words = [f'"{word}"' for word in search_words(part)]
        if number % 2:
            terms += [" + ".join(words)] if words else []
        else:
            terms += words
    if terms and not q.rstrip().endswith('"'):
        terms[-1] += "*"
    return " AND ".join(terms) or None


def matches_query(words: str, query: str) -> bool:
    """Return whether words, as `search_text` returns them, match a query of `search_query`."""
    padded = f" {words} "
    return all(term in padded for term in _padded_terms(query))


@lru_cache(maxsize=256)
def _padded_terms(query: str) -> tuple[str, ...]:
    bare = query.replace('"', "").replace(" + ", " ")
    return tuple(f" {term} ".replace("* ", "") for term in bare.split(" AND "))


def _without_marks(text: str) -> str:
    return "".join(filterfalse(unicodedata.combining, text))
