"""The texts of the console cover the words of the API."""

import re
from pathlib import Path
from typing import get_args

import pytest

from support_service.console.assets import load_assets
from support_service.platform.audit.log import Action

ROOT = Path(__file__).parents[3]
PAGE_OF_KEYS = re.compile(r'^  \w+: \[\s*"([\w.]+)",\s*\[(.*?\])\s*,?\s*\],?\s*\],$', re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("language", ["en", "vi"])
def test_every_audit_action_has_a_text(language):
    """The audit page offers the actions that it has texts for."""
    texts = load_assets().by_path[f"i18n/{language}.js"].body.decode()
    assert set(re.findall(r'"action\.([^"]+)":', texts)) == set(get_args(Action))


def test_every_template_makes_text_of_foreign_values():
    """Modules take `html` from lib/page.js, which shows any value as text. Lit's takes some values for templates."""
    modules = {name: each.body.decode() for name, each in load_assets().by_path.items() if name.endswith(".js")}
    own = {name: body for name, body in modules.items() if not name.startswith("vendor/")}
    lit = re.compile(r'import \{([^}]*)\} from "[./]*/vendor/lit[^"]*"')
    found = {name: set(re.findall(r"[\w$]+(?: as \w+)?", ",".join(lit.findall(body)))) for name, body in own.items()}
    of_values = {"html as template", "svg"}
    harmless = {"LitElement", "guard", "noChange", "nothing", "render", "repeat"}
    assert set().union(*found.values()) == of_values | harmless
    taken = {name: sorted(names & of_values) for name, names in found.items() if names & of_values}
    assert taken == {"lib/page.js": ["html as template"], "parts/charts.js": ["svg"]}  # a path of numbers only


def test_every_text_is_used():
    """By its whole name, as a word of the API, or by a template for its beginning or its end."""
    modules = {name: each.body.decode() for name, each in load_assets().by_path.items() if name.endswith(".js")}
    code = "\n".join(body for name, body in modules.items() if not name.startswith(("vendor/", "i18n/")))
    names = re.findall(r'^  "([\w.-]+)":', modules["i18n/en.js"], re.MULTILINE)
    whole = set(re.findall(r'"([\w.-]+)"', code))
    groups = set(map("".join, re.findall(r'(?:word|words|wordsOf)\("(\w+)"|`(\w+)\.\$\{', code)))
    groups |= set(re.findall(r': "(\w+)"', re.search(r"GROUPS_OF_WORDS = {(.+)}", code)[1]))
    groups |= {name.removeprefix("filter.") for name in names if name.startswith("filter.")}  # the values of filters
    ends = set(re.findall(r"`\$\{[^}`]+\}\.(\w+)`", code))
    assert len(names) > 600
    unused = [n for n in names if n not in whole and n.split(".")[0] not in groups and n.split(".")[-1] not in ends]
    assert not unused


def test_keys_of_the_documentation_are_those_of_the_console():
    """Each key of the list of keys, in its order, with its English text."""
    help_js, texts = (load_assets().by_path[name].body.decode() for name in ("parts/help.js", "i18n/en.js"))
    words = dict(re.findall(r'^  "([\w.-]+)": "(.*)",$', texts, re.MULTILINE))
    listed = []
    for title, keys in PAGE_OF_KEYS.findall(help_js):
        listed += [(words[title], key, words[text]) for key, text in re.findall(r'\["([^"]+)", "([\w.]+)"\]', keys)]
    _, _, page = (ROOT / "docs/console.md").read_text().partition("## Keys")
    rows = re.findall(r"^\| (.+) \| `(.+)` \| (.+) \|$", page.partition("## News")[0], re.MULTILINE)
    assert rows == listed
    assert len(listed) > 30
