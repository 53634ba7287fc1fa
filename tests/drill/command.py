"""`support-service serve`, its own rests divided as the waits of rules: a breaker's, and between looks for Redis."""

from support_service import cli
from support_service.timeline import breaker, redis_cache
from tests.drill import TIME

breaker.OPEN_FOR /= TIME
breaker.OPEN_FOR_AT_MOST /= TIME
redis_cache.TRY_EVERY /= TIME

if __name__ == "__main__":
    cli.main()
