"""Bounds on connections, requests, bodies, rates and unread answers. It knows no case; README.md lists each bound."""
