"""The drill: the service, Redis, Prometheus and Alertmanager as processes; one thing after another is broken.

Every wait of rules and routes is divided by TIME and every size by SIZE, so that an hour of on-call takes a minute. A
machine that is busy with other things needs more time: `DRILL_TIME=30`.
"""

import os

TIME = int(os.environ.get("DRILL_TIME", "60"))
SIZE = 1024
EVALUATION = 60 / TIME  # seconds
SCRAPE = f"{30_000 // TIME}ms"  # twice what the configuration has: the machine that scrapes also works
