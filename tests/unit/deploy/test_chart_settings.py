"""What the chart knows of the settings: settings.json, which is generated from their declarations."""

import json
import re

from support_service.core.errors import UserError
from support_service.platform.settings import SettingsSection
from support_service.platform.settings.section import variables_of
from tests.support.deployments import ROOT
from tests.support.each import each_row

KNOWN = json.loads((ROOT / "observability/helm/support-service/settings.json").read_text())
NUMBERS = ("-1", "0", "1", "7", "8", "200", "201", "600", "601", "65536", "0.5", "1e3", ".5")
TEXTS = (
    *("ten", "true", "FALSE", "on", "no", "yes!", "30d", "1.5 h", "30", "5%", "101%"),
    *("100/s", "6000 / min", "off", "1/d"),
    *("open", "TOKEN", "jwt", "basic", "warn", "Info", "full", "s3", "redirect", "none", "otlp, console"),
    *("https://a.example/b", "http://a:80", "ftp://a", "redis://a/0", "unix:///a", "redis+sentinel://a:1,b:2/c/0"),
    *("sqlite:///a.db", "sqlite+aiosqlite:///a.db", "postgresql+asyncpg://a@b/c", "postgresql://a/b", "mysql://a/b"),
)
# Types of which the chart leaves no wrong value to the service. Of the others it sees the form only.
CHECKED_AS_A_WHOLE = ("open or", "debug or", "local or", "stream or", "NORMAL or", "integer", "true or false")


def is_taken_by_chart(form, text):
    """Say what the template `support.checkVariables` does."""
    if not re.fullmatch(form.get("pattern", "(?s:.*)"), text):
        return False
    if not form.keys() & {"minimum", "maximum", "above"}:
        return True
    number = float(text)
    is_above = number > form["above"] if "above" in form else True
    return is_above and form.get("minimum", number) <= number <= form.get("maximum", number)


def is_taken_by_service(section, name, text):
    try:
        section.load({name: text})
    except UserError:
        return False
    return True


def test_chart_knows_every_setting_and_no_other():
    assert set(KNOWN) == {name for section in SettingsSection.__subclasses__() for name in variables_of(section)}


@each_row("section", SettingsSection.__subclasses__())
def test_chart_takes_the_values_that_the_service_takes(section):
    """Of names, numbers and switches it takes no others."""
    for name in variables_of(section):
        form = KNOWN[name]
        for text in (*NUMBERS, *TEXTS):
            by_chart, by_service = is_taken_by_chart(form, text), is_taken_by_service(section, name, text)
            if form["expected"].startswith(CHECKED_AS_A_WHOLE) and name != "OTEL_SDK_DISABLED":
                assert by_chart == by_service, (name, text)
            elif name != "OTEL_SDK_DISABLED":  # takes any text, and warns of all but true and false
                assert by_chart or not by_service, (name, text)


def test_defaults_that_the_chart_reckons_with_are_those_of_the_service():
    for section in SettingsSection.__subclasses__():
        for name in variables_of(section):
            assert section.load({name: KNOWN[name]["default"]}) == section.load({}), name
