"""A case as JSON: its parts, their encoding, and the documents that a replica keeps."""
