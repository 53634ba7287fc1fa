"""Declaration of the command line: each command's arguments, and the name of the function in `commands/` that runs it.

This package imports only the standard library and a few small modules, so that `--help` and `--version` are fast.
"""
