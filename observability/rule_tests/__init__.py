"""Unit tests of the rules, for promtool. Each lists every alert that fires, except Watchdog."""
