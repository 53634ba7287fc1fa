"""What every use of Redis shares: a limit on what one answer may contain, its errors, and checks of the server."""
