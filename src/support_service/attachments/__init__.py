"""Files of cases: bytes in a storage, rows and the ledger in the database."""
