"""Prometheus understands what runbooks ask it."""

import subprocess

from tests.support.runbooks.pages import PAGES, blocks


def test_queries_of_pages_are_valid(promtool, tmp_path):
    """Prometheus parses every query."""
    queries = [query for page in PAGES for query in blocks(page, "promql")]
    rules = [f"  - record: q:{number}\n    expr: |\n      {query}\n" for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text("groups:\n- name: runbooks\n  rules:\n" + "".join(rules))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(queries)} rules found" in done.stdout
