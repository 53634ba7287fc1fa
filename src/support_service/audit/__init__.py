"""The audit log: who changed what, in one chain of hashes that shows whether it was altered."""
