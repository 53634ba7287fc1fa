"""The synthetic check: proves from outside that a case works from its opening to its deletion."""
