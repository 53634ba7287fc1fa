"""What every use of Redis shares: a limit on what one answer may contain, and a check of the server at the start."""
