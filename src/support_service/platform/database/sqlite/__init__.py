"""The database on SQLite."""
