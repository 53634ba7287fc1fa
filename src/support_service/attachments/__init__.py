"""Files of cases: their bytes in a storage, their rows and the ledger in the database."""
