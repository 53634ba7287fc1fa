"""Macros: texts with variables that supervisors keep for answers to customers, filled from a case and its timeline."""
