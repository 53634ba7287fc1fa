"""The check of the language finds long sentences and pointers without a noun, and nothing else."""

import runpy

import pytest

from tests.support.promql import ROOT

LANGUAGE = runpy.run_path(str(ROOT / ".ci" / "language.py"))
FULL = " ".join(["word"] * 25)


def in_page(text, most=25):
    return list(LANGUAGE["problems"](LANGUAGE["page_sentences"](text), most))


def in_module(source):
    return sorted(line for line, _ in LANGUAGE["problems"](LANGUAGE["module_sentences"](source), 25))


@pytest.mark.parametrize(
    "text",
    [
        f"{FULL} end.",
        f"# {FULL} end",
        f"- {FULL} end",
        f"> {FULL} end",
        f"| {FULL} end |\n| --- |",
        f"{FULL}: end.",
        f"{FULL} **end**.",
        f"{FULL} `make test`.",
        f"{FULL} [end](https://example.com).",
    ],
)
def test_sentence_of_26_words_is_found(text):
    ((line, problem),) = in_page(text)
    assert (line, problem.partition(":")[0]) == (1, "26 words, at most 25")


@pytest.mark.parametrize(
    "text",
    [
        f"{FULL}. {FULL}! {FULL}?",
        f"({FULL}.) {FULL}.",
        f"# {FULL}\n{FULL}\n\n{FULL}",
        f"- {FULL}\n- {FULL}\n  1. {FULL}",
        f"| {FULL} | {FULL} |\n| --- | --- |\n| {FULL} | {FULL} |",
        f"{FULL} - …",
        f"{FULL[5:]} `make test ARGS=--lf`.",
        f"{FULL[5:]} *Support API error budget left*.",
        f"```sh\n{FULL} end\n```",
        f"<!-- {FULL} end -->",
    ],
)
def test_sentences_of_25_words_are_accepted(text):
    """A name in code style or in italics is one word, and a dash is none."""
    assert in_page(text) == []


@pytest.mark.parametrize("text", ["It waits; then it ends.", "- It waits;\n- it ends.", "# It waits; it ends"])
def test_semicolon_is_found(text):
    ((_, problem),) = in_page(text)
    assert problem.startswith("a full stop instead of the semicolon")


@pytest.mark.parametrize(
    "text", ["It runs `BEGIN; COMMIT`.", "```sql\nBEGIN; COMMIT;\n```", "| a; b |\n| --- |\n| c; d |"]
)
def test_semicolon_is_accepted_in_code_and_in_cells(text):
    assert in_page(text) == []


def test_line_is_the_line_on_which_the_sentence_begins():
    page = f"# Title\n\nShort.\nNow\n{FULL}.\n\n| a | b |\n| --- | --- |\n| c | {FULL} end |\n"
    assert [line for line, _ in in_page(page)] == [4, 9]


@pytest.mark.parametrize(
    "text",
    [
        "Delete those that wait.",
        "The cases are those of the list.",
        "It keeps the one with the later time.",
        "The ones\nwho wait come first.",
        "It returns that one.",
        "Agents and customers: the latter write.",
        "Whoever asks gets it.",
    ],
)
def test_pointer_without_a_noun_is_found(text):
    ((_, problem),) = in_page(text)
    assert problem.startswith("name the thing instead of ")


@pytest.mark.parametrize(
    "text",
    [
        "Delete those cases that wait.",
        "The former values come back.",
        "It has all that one client sends.",
        "One of the cases is closed, and the one case that is left is open.",
    ],
)
def test_words_of_pointers_are_accepted_with_a_noun(text):
    assert in_page(text) == []


def test_docstrings_and_messages_are_read():
    """Of code: each docstring, and the texts of errors, log lines, helps and descriptions, with their values."""
    source = f'''"""{FULL} end."""
class Case:
    """{FULL} end."""
    def close(self):
        """Close.

        {FULL} end.
        """
        raise Conflict("closed", f"{FULL} {{self.a or self.b}}")
log.warning("{FULL}"
    " end")
parser.add_argument("--all", help="{FULL} end")
SCHEMA = schema({{"description": "{FULL} end"}})
EXAMPLES = {{"add": "{FULL} end"}}
Alert("name", summary="{FULL} end", expr="{FULL} end")
Panel("title", "{FULL} end")
def other():
    return call("{FULL} end")  # {FULL} end
'''
    assert in_module(source) == [1, 3, 7, 9, 10, 12, 13, 14, 15, 16]
    assert in_module(source.replace(" end", "").replace(" {self.a or self.b}", "")) == []


@pytest.mark.parametrize(
    "text",
    [
        "SELECT name FROM tickets WHERE id = :id AND status = 'open'",
        "sum by (instance) (rate(support_request_received_total[3m])) > 0.5 and on () vector(1)",
        "case message file link note macro view".replace(" ", "_"),
        "No cases",
    ],
)
def test_constant_that_is_no_prose_is_left_out(text):
    assert not LANGUAGE["is_prose"](text)


def test_templates_and_printed_examples_are_short():
    """A value of a template is one word, a condition none, and a printed example is left out."""
    template = "{{{{ if $labels.a }}}}the {{{{ $value | printf `%.0f of all` }}}}{{{{ else }}}}a b c{{{{ end }}}}"
    examples = f'HELP_EXAMPLES = """example:\n  {FULL} end\n\nIt ends."""'
    assert in_module(f'Alert("name", summary=f"{" ".join(FULL.split()[:23])} {template}")\n{examples}') == []


def test_texts_of_the_console_are_read():
    text = '  "a.b": "{n|case|cases} of {all}",\n  "a.c": "' + FULL + ' {end of it}",\n'
    found = LANGUAGE["problems"](LANGUAGE["console_sentences"](text), 25)
    assert [(line, problem.partition(":")[0]) for line, problem in found] == [(2, "26 words, at most 25")]


def test_contributing_names_every_exception():
    page = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    assert [each.what for each in LANGUAGE["EXCEPTIONS"] if each.what not in page] == []


def test_pages_of_the_repository_are_read(tmp_path, monkeypatch):
    """Releases of the changelog stay as they were, and a sentence in Vietnamese has a few syllables more."""
    (tmp_path / "vi").mkdir()
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## Unreleased\n\n{FULL} end.\n\n## 0.1.0\n\n{FULL} end.\n")
    (tmp_path / "vi/page.md").write_text(f"{FULL} a b c d e.\n\n{FULL} a b c d e f.\n")
    problems_of_file = LANGUAGE["problems_of_file"]
    monkeypatch.setitem(problems_of_file.__globals__, "ROOT", tmp_path)
    found = [
        problem.partition(" words")[0]
        for name in ("CHANGELOG.md", "vi/page.md")
        for problem in problems_of_file(LANGUAGE["Path"](name))
    ]
    assert found == ["CHANGELOG.md:5: 26", "vi/page.md:3: 31"]
