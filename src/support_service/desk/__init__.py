"""What agents work with beside cases: saved views, macros for answers to customers, service level policies."""
