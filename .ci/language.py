"""Check that sentences of pages, docstrings and messages are short, and that nouns stand where pointers would.

A sentence has at most 25 words. A semicolon or a colon does not end it. A heading, a list item, a table cell and a
paragraph do. A name in code style or in italics counts as one word.

Vietnamese separates syllables by spaces, not words. Its pages have 1.08 syllables for each word of their English
pages, and at most 1.2, so a sentence in Vietnamese has at most 30.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
PAGES = ("*.md", *(f"{folder}/**/*.md" for folder in ("docs", "observability", "runbooks", "src", "tests")))
MODULES = tuple(f"{folder}/**/*.py" for folder in (".ci", "benchmarks", "docs", "observability", "src", "tests"))
MOST_WORDS, MOST_SYLLABLES = 25, 30
POINTERS = re.compile(
    r"\b(?:those|the ones?) (?:that|which|who|whose|of|in|at|to|with|from)\b"
    r"|\b(?:that one|the former)\b(?=[.,;:)]|$| (?:is|are|has|have|if|and|or)\b)"
    r"|\bthe latter\b|\bwho(?:m|so)?ever\b",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"(?<=[.!?])[)\"'”]*\s+")
RELEASE = re.compile(r"^## \d", re.MULTILINE)
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
TEXT_ARGUMENTS = {"help", "description", "epilog", "detail"}  # of parsers, fields and problems
MARKDOWN = MarkdownIt("commonmark").enable("table")


class Sentence(NamedTuple):
    """A sentence and its line."""

    line: int
    text: str

    @property
    def words(self) -> int:
        """The number of words; a dash or another sign alone is none."""
        return sum(1 for word in self.text.split() if re.search(r"\w", word))


def main() -> int:
    """Print the sentences that break a rule, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="pages and modules (default: all of the repository)")
    paths = parser.parse_args().paths or [path for pattern in (*PAGES, *MODULES) for path in ROOT.glob(pattern)]
    found = [problem for path in sorted(paths) for problem in problems_of_file(path.resolve().relative_to(ROOT))]
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


def problems_of_file(path: Path) -> Iterator[str]:
    """Yield a line for each sentence of a page or a module that breaks a rule. `path` is below the repository."""
    text = (ROOT / path).read_text()
    if path.name == "CHANGELOG.md":
        text = RELEASE.split(text)[0]  # releases stay as they were
    sentences = module_sentences(text) if path.suffix == ".py" else page_sentences(text)
    for line, problem in problems(sentences, MOST_SYLLABLES if path.parent.name == "vi" else MOST_WORDS):
        yield f"{path}:{line}: {problem}"


def problems(sentences: Iterable[Sentence], most: int) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each breach of a rule."""
    for sentence in sentences:
        if sentence.words > most:
            yield sentence.line, f"{sentence.words} words, at most {most}: {sentence.text}"
        for pointer in POINTERS.finditer(sentence.text):
            yield sentence.line, f"name the thing instead of '{pointer[0]}': {sentence.text}"


def page_sentences(text: str, first_line: int = 1) -> Iterator[Sentence]:
    """Yield the sentences of a text in Markdown, without blocks of code."""
    line = first_line
    for token in MARKDOWN.parse(text):
        if token.map:  # the cells of a row have none
            line = first_line + token.map[0]
        if token.type == "inline":
            yield from split(plain(token.children or []), line)


def module_sentences(source: str) -> Iterator[Sentence]:
    """Yield the sentences of the docstrings of a module, and of its errors, log messages and descriptions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from page_sentences(ast.get_docstring(node) or "", node.body[0].lineno if node.body else 1)
        for text in messages(node):
            yield from split(literal(text), text.lineno)


def messages(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the texts that a statement raises or logs, or that a call gives to a parser, a field or a problem."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield from node.exc.args
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS:
            yield from node.args
        yield from (keyword.value for keyword in node.keywords if keyword.arg in TEXT_ARGUMENTS)


def literal(node: ast.expr) -> str:
    """Return the text of a string, in which each inserted value counts as one word; "" for another expression."""
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value).replace(' ', '_')}}}"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def plain(parts: Iterable[Token]) -> str:
    """Return the text of a paragraph without its marks: links as their texts, and each name as one word."""
    text, in_italics = "", False
    for part in parts:
        if part.type in ("em_open", "em_close"):
            in_italics = part.type == "em_open"
        elif part.type == "code_inline":
            text += f"`{part.content.replace(' ', '_')}`"
        elif part.type in ("softbreak", "hardbreak"):
            text += "_" if in_italics else "\n"
        elif part.type == "text":
            text += part.content.replace(" ", "_") if in_italics else part.content
    return text


def split(paragraph: str, line: int) -> Iterator[Sentence]:
    """Yield the sentences of a paragraph with their lines."""
    ends = [end.end() for end in SENTENCE_END.finditer(paragraph)]
    for start, end in zip([0, *ends], [*ends, None], strict=True):
        yield Sentence(line + paragraph.count("\n", 0, start), " ".join(paragraph[start:end].split()))


if __name__ == "__main__":
    sys.exit(main())
