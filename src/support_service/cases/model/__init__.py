"""Models of cases: the case, the requests that change it, their vocabulary and examples."""
