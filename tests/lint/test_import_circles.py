"""No file imports itself by way of others, also not inside a function or for types."""

from graphlib import TopologicalSorter

import grimp


def test_no_files_import_one_another():
    """The error has the files of the circle."""
    graph = grimp.build_graph("support_service")
    TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}).prepare()
