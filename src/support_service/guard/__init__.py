"""Bounds on connections, requests, bodies, rates and unread answers. README.md lists each bound."""
