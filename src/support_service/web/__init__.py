"""HTTP: thin handlers that parse, call and answer, one file a resource."""
