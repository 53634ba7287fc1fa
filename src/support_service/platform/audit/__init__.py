"""The audit log: who changed what, in one hash chain that shows whether it was altered."""
