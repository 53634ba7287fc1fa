"""Words of texts, folded for search, and search queries made of them."""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate, filterfalse
from typing import NamedTuple

MAX_SEARCH_WORD_LENGTH = 64  # letters of a word that are searchable
# Bytes of a case's words in the search index. This is enough for the longest text in any script, at three parts of
# three bytes per letter. A limit is necessary because some characters expand to up to 18 letters, and PostgreSQL
# accepts at most 1 MiB, to which each word adds five bytes.
MAX_SEARCH_TEXT_BYTES = 640 * 1024
DISTINCTIVE_LENGTH = 5  # characters from which a text means the same among other words, such as `CUS-7`
ID_BEGINNING = re.compile(r"[0-9a-f][0-9a-f-]{5,35}")  # of a random UUID
WORD_PATTERN = re.compile(r"[^\W_]+")
# Other ASCII characters than letters and digits as spaces: splitting takes a fifth of what the pattern takes.
ASCII_SEPARATORS = {code: " " for code in range(128) if not WORD_PATTERN.match(chr(code))}


def search_text(*texts: str | None) -> str:
    """Return the search words of the texts, separated by spaces, cut to `MAX_SEARCH_TEXT_BYTES`."""
    return " ".join(search_words(*texts)).encode()[:MAX_SEARCH_TEXT_BYTES].decode(errors="ignore")


def search_words(*texts: str | None) -> list[str]:
    """Return the words of the texts, folded for search: lower case, without diacritics ("Đơn hàng": don, hang).

    Each word is cut to `MAX_SEARCH_WORD_LENGTH` letters.
    """
    folded = _fold(" ".join(filter(None, texts)))
    words = folded.translate(ASCII_SEPARATORS).split() if folded.isascii() else WORD_PATTERN.findall(folded)
    return [word[:MAX_SEARCH_WORD_LENGTH] for word in words]


class SoughtTexts:
    """Texts to find in other texts, as phrases: the same words side by side in the same order.

    A text of less than `DISTINCTIVE_LENGTH` characters, such as `7`, is found only where it is the whole text. Among
    other words it may mean anything.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(texts)
        words_of = {text: tuple(search_words(text)) for text in self._texts}
        self._whole = set(filter(None, words_of.values()))
        self._phrases = {words for text, words in words_of.items() if words and len(text) >= DISTINCTIVE_LENGTH}
        self._lengths = {len(phrase) for phrase in self._phrases}

    def occur_in(self, text: str) -> bool:
        """Return whether a text equals or contains one of the sought texts."""
        words = tuple(search_words(text))
        return (
            text in self._texts
            or words in self._whole
            or any(
                words[start : start + length] in self._phrases
                for length in self._lengths
                for start in range(len(words) - length + 1)
            )
        )


class LocatedWords:
    """The search words of one text, and where each stands in the text: offsets count characters of the original.

    One character may be several letters of words (`ﬁ`), even of two words (`½`), or none (a mark above a letter).
    """

    def __init__(self, text: str) -> None:
        self._ends: list[int] | None = None  # of each character in the folded text; None: each is one letter
        if text.isascii():
            folded = _fold(text)
        else:
            letters = [_fold_character(character) for character in text]
            self._ends = list(accumulate(map(len, letters)))
            folded = "".join(letters)
        found = list(WORD_PATTERN.finditer(folded))
        self.words = [match[0][:MAX_SEARCH_WORD_LENGTH] for match in found]
        self._places = [match.start() for match in found]
        self._padded = f" {' '.join(self.words)} "

    def find(self, term: str) -> int | None:
        """Return the index of the first word at which a term of `padded_terms` is found, or None."""
        start = self._padded.find(term)
        return self._padded.count(" ", 0, start) if start >= 0 else None

    def find_all(self, term: str, first: int, last: int) -> Iterator[int]:
        """Yield the indexes at which a term is found within the words from `first` to before `last`."""
        padded = f" {' '.join(self.words[first:last])} "
        start = padded.find(term)
        while start >= 0:
            yield first + padded.count(" ", 0, start)
            start = padded.find(term, start + 1)

    def span_in_text(self, index: int, length: int) -> tuple[int, int]:
        """Return where the first `length` letters of a word stand in the text: start and end.

        A character is included whole, with the marks that follow it.
        """
        start, end = self._places[index], self._places[index] + length
        if self._ends is None:
            return start, end
        last = bisect_left(self._ends, end)  # the character of the last letter
        return bisect_right(self._ends, start), bisect_right(self._ends, self._ends[last])

    def indexes_between(self, start: int, end: int) -> tuple[int, int]:
        """Return the indexes of the words that begin in a part of the text: the first, and the one after the last."""
        return bisect_left(self._places, self._folded_offset(start)), bisect_left(
            self._places, self._folded_offset(end)
        )

    def _folded_offset(self, offset: int) -> int:
        if self._ends is None or not offset:
            return offset
        return self._ends[offset - 1]


def _fold(text: str) -> str:
    if not text.isascii():
        # Marks are also removed before NFKD, which would sort a long run of them for seconds.
        text = _without_marks(unicodedata.normalize("NFKD", _without_marks(text))[:MAX_SEARCH_TEXT_BYTES])
    # Lower case comes after NFKD, which turns letters without a lower case, such as ᴺ, into capitals.
    return text.casefold().replace("đ", "d")


_fold_character = lru_cache(maxsize=4096)(_fold)


def parse_search_query(q: str) -> str | None:
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


class SoughtIds(NamedTuple):
    """What a search may name by its id: `value` and its form in capitals, and ids that begin with `prefix`, if any."""

    value: str
    capitals: str
    prefix: str | None


def parse_sought_ids(q: str) -> SoughtIds | None:
    """Return the ids that a text may be, or None. An id is without spaces, and has a digit or is hex."""
    value = q.strip().strip('"').removeprefix("#")
    prefix = value.lower() if ID_BEGINNING.fullmatch(value.lower()) else None
    if len(value.split()) != 1 or not value.isprintable() or not (prefix or any(map(str.isdigit, value))):
        return None
    return SoughtIds(value, value.upper(), prefix)


def matches_query(words: str, query: str) -> bool:
    """Return whether words, as `search_text` returns them, match a query of `parse_search_query`."""
    padded = f" {words} "
    return all(term in padded for term in padded_terms(query))


@lru_cache(maxsize=256)
def padded_terms(query: str) -> tuple[str, ...]:
    """Return the terms of a query of `parse_search_query`, as they are found in words between spaces.

    A term that also matches longer words has no space at its end.
    """
    bare = query.replace('"', "").replace(" + ", " ")
    return tuple(f" {term} ".replace("* ", "") for term in bare.split(" AND "))


def _without_marks(text: str) -> str:
    return "".join(filterfalse(unicodedata.combining, text))
