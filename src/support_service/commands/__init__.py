"""The `support-service` commands, one module per noun of the command line: what a command accepts, and what it does.

Modules import only the standard library and small modules, so that `--help` and `--version` are fast. What a command
needs to run is imported inside its functions. `runtime` and `output` have what commands share.
"""
