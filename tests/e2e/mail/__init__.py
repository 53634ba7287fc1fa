"""The mail gateway of the documentation, between real mail servers and a real service."""
