"""The command line's grammar: each command's arguments, and the name of the function in `commands/` that runs it.

Nothing here imports more than the standard library and a few small modules, so that `--help` and `--version` are fast.
"""
