"""Configuration of the documentation site: `make docs` builds it, `make lint-docs` fails on broken links."""

project = "support-service"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
root_doc = "docs/index"
include_patterns = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md", "src/**/README.md"),
    *("docs/**.md", "runbooks/**.md", "observability/*.md", "observability/vi/*.md"),
]
html_theme = "furo"
html_title = "support-service"
myst_heading_anchors = 3  # headings get the anchors that GitHub gives them
myst_fence_as_directive = ["mermaid"]
suppress_warnings = ["misc.highlighting_failure"]  # quotes that span lines in a console block
