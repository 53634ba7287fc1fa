"""The synthetic check: verifies from outside that a case works from its opening to its deletion."""
