"""SQL of cases: reads, changes, the list and its search."""
