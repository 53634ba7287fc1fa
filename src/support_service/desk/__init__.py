"""What agents work with beside cases: saved views of the list of cases, and macros for answers to customers."""
