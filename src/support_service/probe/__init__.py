"""The synthetic check: verifies from outside that a case works from opening to deletion."""
