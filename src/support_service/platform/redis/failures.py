"""The errors that redis-py raises for an operation that failed."""

from redis.exceptions import RedisError

# Errors for an answer of another form: redis-py takes its form for granted.
FORM_ERRORS = (ValueError, TypeError, AttributeError, LookupError)
FAILURES = (RedisError, OSError, *FORM_ERRORS)
