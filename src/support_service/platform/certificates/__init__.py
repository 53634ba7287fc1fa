"""Certificates of the servers that the service calls: how long they are valid."""
