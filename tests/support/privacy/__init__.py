"""The rules of privacy: what analysts see of each field, and what an erasure leaves of it."""
