"""Privacy: erasure of a customer across all capabilities."""
