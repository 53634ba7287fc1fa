"""SQL of cases: reads, changes, links, the search and the import."""
