"""Authentication: the caller of a request, identified by an opaque token or a JSON Web Token."""
