"""Every threshold of alerts and panels, with its unit and its reason: the one place to change it.

Durations are Prometheus's (`3m`); what is compared with a number is a number, in the unit that the comment names.
`make rules` writes the rules anew. The drill divides times and bytes by constants of its own, and nothing else.
"""

# How often Prometheus looks. Windows of causes are 3 evaluations long: an alert is over within five of the repair.
SCRAPE_EVERY = "15s"
EVALUATE_EVERY = "1m"
WINDOW = "3m"  # of the rates that alerts look at: 12 scrapes, of which a few may be lost
SYMPTOM_WINDOW = "2m"  # of what follows from a cause, so that it is over before its cause is

# How long a condition holds before it is told. Causes are told first, so that they can silence what follows from them.
AT_ONCE = "0m"  # for what never happens by chance
CAUSE_FOR = "2m"  # outlives a restart and a deployment's last replica
CAUSE_KEPT = "2m"  # a cause goes on firing so long after it ended: what follows from it, and is silenced, ends first
SYMPTOM_FOR = "5m"  # a cause, if there is one, has been told by then
SLOW_FOR = "10m"  # the timeline's latency, as the objective names it; the backlog, which nobody can shrink in a minute

# Timeline
LATENCY_P95 = 2.0  # s; agents wait that long, and it is an edge of the histogram's buckets
LATENCY_READS = 10  # reads in a window; below, one slow read would be the 95th percentile
CACHE_ERROR_SHARE = 0.05  # of reads; a Redis in order gives none, a failover gives a few
CACHE_ERRORS = 3  # errors in a window; one lost connection is no outage
MISS_SHARE = 0.6  # of reads; cold cases and renewals stay below half
MISS_SURGE = 1.5  # times the share of the day before, so that a service that mostly misses is no surge
MISS_BEFORE = "1d"  # which a surge is held against; a day has its rush hours and its night
MISS_READS = 10  # reads in a window; the first readers of the morning all miss
FAILURE_SHARE = 0.1  # failures for each read; each costs a timeline something, and a retry has failed already
FAILURES = 5  # failures in a window
SOURCE_DOWN_SHARE = 0.5  # of calls; the breaker opens at the same share
SOURCE_WINDOW = "2m"  # shorter than WINDOW: the breaker's rest of up to 30 s comes on top of it, and CAUSE_KEPT
SOURCE_CALLS = 5  # calls that failed in a window; the breaker needs as many

# Attachments
GIB = 1024**3
BACKLOG_BYTES = 15 * GIB  # bytes; three quarters of the 20 GiB volume that the deployment asks for
BACKLOG_DISK_SHARE = 0.75  # of what the backlog takes and the disk has free; the same on a smaller volume
GROWTH_WINDOW = "10m"  # long enough that one large file is no trend
GROWTH_HORIZON = 4 * 3600  # s; time for a person to move files away in working hours and at night
GROWTH_FOR = "2m"  # as a cause: a full disk follows from it
DISK_FREE = GIB  # bytes; four times the reserve at which the service begins to refuse files
OFFLOAD_WINDOW = "30m"  # failures are remembered over the pause between two runs
OFFLOAD_FAILURES = 3  # files in that window, with none moved in the last minutes
SWEEP_KEPT = "15m"  # a process's last word on lost files; it, or its successor, sweeps within minutes of its start
SWEEP_UNHEARD = "2h"  # the last word of all, where nobody has swept since: a sweep that fails is made up in an hour
DAMAGE_WINDOW = "1h"  # a re-hash finds a file once; on-call must not lose sight of it within minutes

# Events
OUTBOX_AGE = 120  # s; the relay takes less than 1 s, and a broker's failover less than this
STREAM_WAITING = 100  # events that wait while none is applied; a consumer takes that many in a second or two
STREAM_BEHIND = 5000  # events that wait, whatever is consumed; more than a consumer takes in a minute
DEAD_LETTERS = 0  # events; each one is a change that a case has not seen
EVENTS_FOR = "2m"  # as a cause: agents see it only in what is missing

# Traffic, against the same hour of the past seven days
TRAFFIC_SPIKE = 4  # times the second highest of those days; sales and Mondays stay below three
TRAFFIC_SPIKE_FLOOR = 20  # cases more in SPIKE_WINDOW, so that a quiet night's handful is no flood
SPIKE_WINDOW = "5m"  # a flood is seen in minutes, and gone from it in as many
TRAFFIC_SILENCE = 0.1  # of the second lowest of those days; a day's noise never comes near
SILENCE_WINDOW = "15m"  # silence takes longer to tell from chance
TRAFFIC_SILENCE_FLOOR = 20  # cases that were to come in SILENCE_WINDOW; two or fewer of 20 by chance: once in 2 million
TRAFFIC_HOUR = "1h"  # around the same time of day; rush hours do not begin at the same minute
TRAFFIC_PAST = 7  # days back, which has each day of the week once
TRAFFIC_DAYS = 3  # of history at least; fewer say nothing about a usual day

# Objectives. A burn rate of 1 uses the budget up in 30 days; both windows of a pair must burn.
OBJECTIVE_API = 0.999  # of requests are not answered by 5xx, over 30 days
OBJECTIVE_TIMELINE = 0.99  # of reads are not partial and take less than LATENCY_P95, over 30 days
BURN_FAST = 14.4  # 2 % of the month's budget in an hour
BURN_FAST_WINDOWS = ("1h", "4m")  # the short one is over within five evaluations
BURN_MEDIUM = 6  # 5 % in six hours
BURN_MEDIUM_WINDOWS = ("6h", "30m")
BURN_SLOW = 1  # 10 % in three days
BURN_SLOW_WINDOWS = ("3d", "6h")
BURN_FAST_FOR = "2m"  # the short window has seen enough by then
BURN_SLOW_FOR = "15m"  # nobody is called at night for these, so the fast alert is heard first
BURN_REQUESTS = 30  # requests in a pair's short window; with fewer, one failure would be an incident

# The process
DOWN_FOR = "1m"  # four scrapes in a row that nobody answers; a restart takes seconds
DOWN_KEPT = "3m"  # as CAUSE_KEPT, until the probe has looked again
LOOP_LAG_P95 = 0.25  # s; every request waits that much besides its own work, ten times what a busy loop shows

# The audit log
AUDIT_AGE = 300  # s; an entry is sealed within a second or two, and after a failover within this

# The probe
PROBE_FOR = "5m"  # five runs in a row at its usual minute; as a symptom, whose cause has been told by then
PROBE_MISSING_FOR = "5m"  # outlives the probe's own deployment
