"""The texts of the console cover the words of the API."""

import re
from typing import get_args

import pytest

from support_service.console.assets import load_assets
from support_service.platform.audit.log import Action


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
