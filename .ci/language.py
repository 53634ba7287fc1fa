"""Check that sentences are short, state one fact, and have nouns where pointers would stand.

The check reads pages, docstrings, and the texts of the code. Those are errors, log messages, helps, descriptions,
alerts, panels, metrics, prose in constants of modules, and texts of the console. Prose ends
with a full stop or has six words. Three quarters of its words have no capitals and no signs.

A sentence has at most 25 words. A colon does not end it, and a semicolon is refused. A heading, a list item, a table
cell and a paragraph end it.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
PAGES = ("*.md", *(f"{folder}/**/*.md" for folder in ("docs", "observability", "runbooks", "src", "tests")))
MODULES = tuple(
    f"{folder}/**/*.py" for folder in (".ci", "benchmarks", "docs", "grafana", "observability", "src", "tests")
)
CONSOLE_TEXTS = ("src/support_service/console/static/i18n/*.js",)
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
# Texts of parsers, fields, problems, alerts, panels and metrics, by keyword, and by function and position.
TEXT_ARGUMENTS = {"help", "description", "pushed_description", "summary", "epilog", "detail", "about", "meaning"}
TEXT_POSITIONS = {"Panel": 1, "InstrumentSpec": 3}
PLAIN_WORD = re.compile(r"[(\"']?[A-Za-z]?[a-z'-]+[.,:;!?)\"']*")
PROSE_WORDS = 6
PRINTED_EXAMPLE = re.compile(r"^  .*", re.MULTILINE)
TEMPLATE_BRANCH = re.compile(r"\{\{ *else *\}\}.*?\{\{ *end *\}\}", re.DOTALL)
TEMPLATE_CONTROL = re.compile(r"\{\{ *(?:if|else|end|with|range)\b.*?\}\}", re.DOTALL)
TEMPLATE_VALUE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
CONSOLE_TEXT = re.compile(r'^ *"([^"]+)": ("(?:[^"\\]|\\.)*")', re.MULTILINE)
MARKDOWN = MarkdownIt("commonmark").enable("table")

Part = Literal["prose", "cell", "docstring", "text"]


class Exempt(NamedTuple):
    """Something that is exempt from a rule, and how. CONTRIBUTING.md lists each."""

    what: str
    how: Literal["not read", "one word", "30 words", "semicolons"]
    files: tuple[str, ...] = ()  # patterns of paths
    parts: tuple[Part, ...] = ("prose", "cell", "docstring", "text")


EXCEPTIONS = (
    Exempt("blocks of code, HTML and printed examples", "not read"),
    Exempt("released sections of `CHANGELOG.md`", "not read", ("CHANGELOG.md",)),
    Exempt("names in code style or in italics", "one word"),
    Exempt("values that are inserted, such as `{name}` and `{{ $value }}`", "one word"),
    # Vietnamese separates syllables by spaces, not words. Its pages have 1.08 syllables for each word of their English
    # pages, and at most 1.2.
    Exempt("pages and texts in Vietnamese", "30 words", ("vi/*", "*/vi/*", "*/i18n/vi.js")),
    Exempt("cells of tables", "semicolons", ("*",), ("cell",)),
    Exempt(
        "docstrings and texts in `src/`, `tests/` and `benchmarks/`",
        "semicolons",
        ("src/*", "tests/*", "benchmarks/*"),
        ("docstring", "text"),
    ),
    Exempt("`observability/metrics.md`, which has texts of `src/`", "semicolons", ("observability/metrics.md",)),
)


class Sentence(NamedTuple):
    """A sentence, its line, and where it stands."""

    line: int
    text: str
    part: Part = "prose"

    @property
    def words(self) -> int:
        """The number of words. A dash or another sign alone is none."""
        return sum(1 for word in self.text.split() if re.search(r"\w", word))


def main() -> int:
    """Print the sentences that break a rule, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=exceptions_text(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, help="pages and modules (default: all of the repository)")
    patterns = (*PAGES, *MODULES, *CONSOLE_TEXTS)
    paths = parser.parse_args().paths or [path for pattern in patterns for path in ROOT.glob(pattern)]
    found = [problem for path in sorted(paths) for problem in problems_of_file(path.resolve().relative_to(ROOT))]
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


def exceptions_text() -> str:
    """Return the exceptions as a list for a terminal."""
    return "\n".join(["exceptions:", *(f"  {each.what} ({each.how})" for each in EXCEPTIONS)])


def problems_of_file(path: Path) -> Iterator[str]:
    """Yield a line for each sentence of a page or a module that breaks a rule. `path` is below the repository."""
    text = (ROOT / path).read_text()
    if is_exempt(Path(path.name), "not read"):
        text = RELEASE.split(text)[0]
    read = {".py": module_sentences, ".js": console_sentences}.get(path.suffix, page_sentences)
    most = MOST_SYLLABLES if is_exempt(path, "30 words") else MOST_WORDS
    for line, problem in problems(read(text), most, path):
        yield f"{path}:{line}: {problem}"


def is_exempt(path: Path, how: str, part: Part = "prose") -> bool:
    """Return whether a part of a file is exempt."""
    return any(
        each.how == how and part in each.parts and any(fnmatch(str(path), pattern) for pattern in each.files)
        for each in EXCEPTIONS
    )


def problems(sentences: Iterable[Sentence], most: int, path: Path = Path("README.md")) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each breach of a rule."""
    for sentence in sentences:
        if sentence.words > most:
            yield sentence.line, f"{sentence.words} words, at most {most}: {sentence.text}"
        if ";" in re.sub("`[^`]*`", "", sentence.text) and not is_exempt(path, "semicolons", sentence.part):
            yield sentence.line, f"a full stop instead of the semicolon: {sentence.text}"
        for pointer in POINTERS.finditer(sentence.text):
            yield sentence.line, f"name the thing instead of '{pointer[0]}': {sentence.text}"


def page_sentences(text: str, first_line: int = 1, part: Part = "prose") -> Iterator[Sentence]:
    """Yield the sentences of a text in Markdown, without blocks of code."""
    line, in_cell = first_line, False
    for token in MARKDOWN.parse(text):
        if token.map:  # the cells of a row have none
            line = first_line + token.map[0]
        if token.type in ("td_open", "th_open", "td_close", "th_close"):
            in_cell = token.type.endswith("open")
        if token.type == "inline":
            yield from split(plain(token.children or []), line, "cell" if in_cell else part)


def module_sentences(source: str) -> Iterator[Sentence]:
    """Yield the sentences of the docstrings of a module, and of its texts."""
    tree = ast.parse(source)
    found: dict[ast.expr, None] = {}  # each once, in the order of the module
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            yield from page_sentences(docstring, node.body[0].lineno if node.body else 1, "docstring")
        found |= dict.fromkeys(texts(node))
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            found |= dict.fromkeys(each for each in strings(statement.value) if is_prose(literal(each)))
    for text in found:
        yield from text_sentences(literal(text), text.lineno)


def texts(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the texts that a statement raises or logs, or that a call or a dictionary describes something with."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield from node.exc.args
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value in ("description", "summary"):
                yield value
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if isinstance(node.func, ast.Attribute) and name in LOG_METHODS:
            yield from node.args
        yield from (keyword.value for keyword in node.keywords if keyword.arg in TEXT_ARGUMENTS)
        yield from node.args[TEXT_POSITIONS[name] :][:1] if name in TEXT_POSITIONS else ()


def strings(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the strings of an expression."""
    if isinstance(node, ast.JoinedStr | ast.Constant):
        yield node
    else:
        for part in ast.iter_child_nodes(node):
            value = part.value if isinstance(part, ast.keyword) else part
            yield from strings(value) if isinstance(value, ast.expr) else ()


def is_prose(text: str) -> bool:
    """Return whether a text of a constant is prose, and no name, pattern, statement or expression."""
    words = text.split()
    plain_words = sum(1 for word in words if PLAIN_WORD.fullmatch(word))
    ends = text.rstrip().endswith(".") and len(words) > 1
    return (ends or len(words) >= PROSE_WORDS) and plain_words >= len(words) * 3 / 4


def literal(node: ast.expr) -> str:
    """Return the text of a string, in which each inserted value counts as one word, or "" for another expression."""
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return literal(node.left) + literal(node.right)
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value).replace(' ', '_').replace(';', ',')}}}"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def text_sentences(text: str, line: int) -> Iterator[Sentence]:
    """Yield the sentences of a text of the code, without printed examples. Values of templates count as one word."""
    text = TEMPLATE_CONTROL.sub("", TEMPLATE_BRANCH.sub("", text))
    yield from page_sentences(PRINTED_EXAMPLE.sub("", TEMPLATE_VALUE.sub("{value}", text)), line, "text")


def console_sentences(source: str) -> Iterator[Sentence]:
    """Yield the sentences of the texts of the console. A choice by number, such as `{n|case|cases}`, is one word."""
    for text in CONSOLE_TEXT.finditer(source):
        line = source.count("\n", 0, text.start()) + 1
        yield from split(re.sub(r"\{[^}]*\}", "{value}", json.loads(text[2])), line, "text")


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


def split(paragraph: str, line: int, part: Part = "prose") -> Iterator[Sentence]:
    """Yield the sentences of a paragraph with their lines."""
    ends = [end.end() for end in SENTENCE_END.finditer(paragraph)]
    for start, end in zip([0, *ends], [*ends, None], strict=True):
        yield Sentence(line + paragraph.count("\n", 0, start), " ".join(paragraph[start:end].split()), part)


if __name__ == "__main__":
    sys.exit(main())
