"""The texts of the console cover the words of the API."""

import re
from typing import get_args

import pytest

from support_service.audit.log import Action
from support_service.console.assets import assets


@pytest.mark.parametrize("language", ["en", "vi"])
def test_every_audit_action_has_a_text(language):
    """The audit page offers the actions that it has texts for."""
    texts = assets().by_path[f"i18n/{language}.js"].body.decode()
    assert set(re.findall(r'"action\.([^"]+)":', texts)) == set(get_args(Action))
