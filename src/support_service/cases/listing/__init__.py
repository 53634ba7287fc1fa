"""Lists of cases: filters, sorts, the search, snippets of what matches, and the cursor of a page."""
