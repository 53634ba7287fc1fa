"""What commands run on: the event loop, the database, their principal in the audit log, and terminal output."""
