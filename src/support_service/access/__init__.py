"""Authentication: who a request comes from, by token or JSON Web Token."""
