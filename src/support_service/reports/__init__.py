"""Reports: what happened to cases in a time, from counters, and a row for each case."""
