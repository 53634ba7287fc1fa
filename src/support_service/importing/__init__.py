"""Import of cases from other systems: readers of their formats, and the writing of cases in batches."""
