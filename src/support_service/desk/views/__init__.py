"""Saved views: named filters of the list of cases, of one user or shared with a team."""
