"""Functions that run the `support-service` commands, one module per noun of the command line.

`arguments/` has a module of the same name, which declares the commands and their options. `runtime/` holds the parts
that commands share.
"""
