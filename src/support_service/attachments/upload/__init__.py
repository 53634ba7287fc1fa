"""Parts of an upload: slots, validation, type detection and hashing."""
