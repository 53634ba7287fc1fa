"""Unit tests of the rules, written for promtool by `make rules`. Each lists every alert that fires, except Watchdog."""
