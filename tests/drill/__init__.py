"""The drill: the service, Redis, Prometheus and Alertmanager as processes; one thing after another is broken.

Every wait of rules and routes is divided by TIME and every size by SIZE, so that an hour of on-call takes a minute.
"""

TIME = 60
SIZE = 1024
EVALUATION = 60 / TIME  # seconds
SCRAPE = "500ms"  # twice the 15 s that 60 times would be: the machine that scrapes also works
