"""Domain values and rules without I/O: ids, errors, problem codes, principals, pagination, units, privacy."""
