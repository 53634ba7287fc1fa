"""Requests that may be repeated: each has a key, takes effect once, and is answered with what was answered first."""
