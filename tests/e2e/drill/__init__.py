"""The alert drill: inject one fault after another into a whole deployment, with Prometheus and Alertmanager.

Every wait of rules and routes is divided by TIME and every size by SIZE, so that an hour of on-call takes a minute. Set
`DRILL_TIME=30` on a busy machine, which needs more time.
"""

import os

TIME = int(os.environ.get("DRILL_TIME", "60"))
SIZE = 1024
EVALUATION = 60 / TIME  # seconds
SCRAPE = f"{30_000 // TIME}ms"  # twice the configured interval, since the drill itself loads the machine
