"""Functions that run the `support-service` commands. `arguments/` declares the commands and their options."""
