"""What agents work with beside cases: saved views and macros."""
