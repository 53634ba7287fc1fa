"""The unit tests of the rules, which `make rules` writes for promtool. Each says what fires in all, Watchdog aside."""
