"""The pages beside the runbooks: in pairs, with links that lead somewhere and metrics that exist."""

import ast
import re
from pathlib import Path

from support_service.api.routes import ROUTES
from support_service.api.routing.route import Permission
from support_service.platform.settings.earlier_service import NEW_NAME_BY_EARLIER_NAME
from tests.support.each import each
from tests.support.promql import NAME, ROOT, known_series, series_family

PACKAGE = ROOT / "src" / "support_service"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(each for folder in ("docs", "observability", "src") for each in (ROOT / folder).rglob("*.md")),
    ]
)


@each(page=PAGES)
def test_relative_links_and_headings_exist(page: Path):
    for target, _, heading in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())):
        if "://" in target:
            continue
        file = page if not target else page.parent / target
        assert file.exists(), target
        headings = {re.sub(r"[^\w -]", "", line[3:]).lower().replace(" ", "-") for line in _headings(file)}
        assert not heading or heading in headings, heading


def _headings(file: Path) -> list[str]:
    return re.findall(r"^## .+$", file.read_text(), re.MULTILINE) if file.suffix == ".md" else []


@each(page=["architecture.md", "glossary.md"])
def test_modules_that_a_page_names_exist(page: str):
    """A name without a folder may be anywhere in the package, as in the row of its folder."""
    text = (ROOT / "docs" / page).read_text()
    missing = [
        name
        for name in re.findall(r"`([\w./*]+(?:/|\.py))`", text)
        if not any(list(base.glob(name.strip("/"))) for base in (ROOT, PACKAGE))
        and ("/" in name.strip("/") or not list(PACKAGE.rglob(name.strip("/"))))
    ]
    assert missing == []


def test_every_package_is_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text()
    packages = [path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*/__init__.py")]
    assert [str(each) for each in packages if f"{each.name}/`" not in text] == []


def test_observability_pages_exist_in_both_languages():
    """The generated catalogue is the same for both."""
    english = {path.name for path in (ROOT / "observability").glob("*.md")} - {"metrics.md"}
    assert english == {path.name for path in (ROOT / "observability" / "vi").glob("*.md")}


@each(page=PAGES)
def test_metrics_of_documents_exist(page: Path):
    """Every metric of ours is in the table."""
    named = {name for name in NAME.findall(page.read_text()) if name.startswith("support_")}
    # The package, and the tables of the earlier service.
    tree = {"support_service", "support_tickets", "support_conversations", "support_attachments"}
    assert {series_family(name) for name in named} - tree <= known_series()


def test_pages_list_every_permission():
    """Each is in a table of the page of permissions, or of on-call."""
    pages = [(ROOT / "docs" / "api" / f"{name}.md").read_text() for name in ("authentication", "on-call")]
    listed = {
        each
        for row in "\n".join(pages).splitlines()
        if row.startswith("| `")
        for each in re.findall(r"`(\S+?:\S+?)`", row)
    }
    used = {route.access.name for route in ROUTES if isinstance(route.access, Permission)}
    assert used <= listed, used - listed


def test_the_page_for_the_earlier_service_lists_every_renamed_variable():
    """Each variable is in a row with its new name."""
    rows = (ROOT / "docs" / "operations" / "earlier-service.md").read_text().splitlines()
    for earlier, new in NEW_NAME_BY_EARLIER_NAME.items():
        assert any(f"`{earlier}`" in row and f"`{new}`" in row for row in rows if row.startswith("| `SERVICE_")), (
            earlier
        )


def test_messages_name_no_page_that_an_installation_lacks():
    """A wheel has no `docs/`: a message says itself what to do. So do the descriptions of routes."""
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for module in [ast.parse(path.read_text())]
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\bdocs/\S+\.md", node.value)
        if node.value != ast.get_docstring(module, clean=False)
    ]
    assert named == []


def test_examples_of_how_to_write_a_test_are_tests():
    """Each example stands word for word in the module that the page runs."""
    page = (ROOT / "docs" / "writing-a-test.md").read_text()
    module = (ROOT / re.search(r"pytest -n 0 (\S+)", page)[1]).read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    assert [example for example in examples if example not in module] == []
