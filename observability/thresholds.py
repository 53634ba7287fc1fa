"""Every threshold of alerts and panels with its unit and its reason. Change thresholds only here.

Durations use Prometheus's syntax (`3m`). A value that is compared with a number is a number, in the unit that its
comment names. The drill divides times and bytes by constants of its own, and changes nothing else.
"""

# Scrape and evaluation intervals. Ranges of cause alerts are 3 evaluations long, so that an alert resolves within six
# evaluations of the repair; SupportUploadsRefused, which is kept for longer, within eight.
SCRAPE_EVERY = "15s"
EVALUATE_EVERY = "1m"
WINDOW = "3m"  # range of the rates in alerts: 12 scrapes; a few may be lost
SYMPTOM_WINDOW = "2m"  # range of symptoms, so that a symptom resolves before its cause

# How long a condition must hold before its alert fires. Causes fire first, so that they can inhibit their symptoms.
AT_ONCE = "0m"  # for conditions that never occur by chance
CAUSE_FOR = "2m"  # longer than a restart, and than a deployment's last replica takes
CAUSE_KEPT = "3m"  # a cause keeps firing this long after it ended: longer than the window of any symptom that it mutes
SYMPTOM_FOR = "5m"  # by then the alert on a cause, if there is one, has fired
SLOW_FOR = "10m"  # for the timeline's latency, as in the objective, and the backlog, which can't shrink in a minute

# Timeline
LATENCY_P95 = 2.0  # s; how long agents wait, a bucket boundary, and less than SUPPORT_TIMELINE_SOURCE_TIMEOUT
LATENCY_READS = 10  # reads per window; with fewer, one slow read would be the 95th percentile
MISS_SHARE = 0.6  # share of reads; cold cases and renewals stay below half
MISS_SURGE = 1.5  # multiple of the previous day's share, so that a usually high miss rate is not a surge
MISS_BEFORE = "1d"  # baseline period of a surge; a day includes its rush hours and its night
MISS_READS = 10  # reads per window; the first reads of the morning all miss
FAILURE_SHARE = 0.1  # failures per read; each degrades a timeline, and comes after a failed retry
FAILURES = 5  # failures per window
SOURCE_DOWN_SHARE = 0.5  # share of calls; the breaker opens at the same share
SOURCE_WINDOW = "2m"  # shorter than WINDOW, because the breaker's open state of up to 30 s and CAUSE_KEPT add to it
SOURCE_CALLS = 5  # failed calls per window; the breaker needs as many

# Attachments
GIB = 1024**3
BACKLOG_BYTES = 15 * GIB  # bytes; three quarters of the 20 GiB volume that the deployment requests
BACKLOG_DISK_SHARE = 0.75  # backlog as a share of backlog plus free space; the same limit on a smaller volume
UPLOADS_REFUSED_SHARE = 0.05  # share of uploads; a healthy store refuses none, and one of ten replicas a tenth
UPLOADS_REFUSED = 5  # such uploads per window; one lost connection to S3 is not an outage
UPLOADS_REFUSED_KEPT = "5m"  # the probe, which uploads a file, is flapping for PROBE_RECENT after its last bad run
GROWTH_WINDOW = "10m"  # long enough that one large file is not a trend
GROWTH_HORIZON = 4 * 3600  # s; enough for a person to move files away, in working hours and at night
GROWTH_FOR = "2m"  # as for a cause: a full disk follows from it
DISK_FREE = GIB  # bytes; four times the reserve at which the service starts to refuse files
OFFLOAD_WINDOW = "30m"  # failures count across the pause between two runs
OFFLOAD_FAILURES = 3  # files in that window, while none was moved in the last minutes
SWEEP_KEPT = "15m"  # a process's last report on lost files; it or its successor sweeps within minutes of its start
SWEEP_UNHEARD = "2h"  # validity of the last report if no sweep has run since; a failed sweep is repeated within an hour
DAMAGE_WINDOW = "1h"  # a re-hash or a download reports a file once, and the alert must not resolve within minutes

# The database, Redis, webhooks, certificates
DATABASE_ERROR_SHARE = 0.05  # share of one replica's operations; a healthy database causes none
DATABASE_ERRORS = 5  # errors, or timeouts, per window; one lost connection is not an outage
DATABASE_FOR = "3m"  # longer than the failover of a database
REDIS_ERROR_SHARE = 0.05  # share of reads, or of operations on streams; a healthy Redis causes none, a failover a few
REDIS_FULL_SHARE = 0.98  # share of maxmemory in use; Redis refuses a write that would exceed it
REDIS_ERRORS = 3  # errors per window; one lost connection is not an outage
WEBHOOK_FAILURES = 3  # failed attempts in WEBHOOK_WINDOW, while none succeeds
WEBHOOK_WINDOW = "15m"  # attempts are repeated after ever longer pauses
CERTIFICATE_DAYS = 14  # days; enough to replace a certificate by hand, and after the usual renewal should have been

# Access and clients
REFUSED_SHARE = 0.25  # share of authentications; a client whose token has expired is far below it
REFUSALS = 20  # refused authentications per window; a few requests of one client are not an outage
ACCESS_FOR = "3m"  # longer than callers take to get new tokens
KEYS_AGE = 900  # s; keys are read every 5 min, the token file every few seconds
TURNED_AWAY_SHARE = 0.05  # share of requests; a client over its limit is far below it
TURNED_AWAY = 20  # requests per window
CLIENT_ERROR_SHARE = 0.2  # share of a route's requests; agents who mistype or edit at once stay below a twentieth
CLIENT_ERRORS = 20  # such answers per window

# Events
OUTBOX_AGE = 120  # s; the relay takes less than 1 s, and a broker's failover less than this
STREAM_WAITING = 100  # waiting events while none is applied; a consumer takes as many in a second or two
STREAM_BEHIND = 5000  # waiting events in any case; more than a consumer takes in a minute
DEAD_LETTERS = 0  # events; each is a change that a case has not received
STREAM_LAG_P95 = 2.0  # s; twenty times the usual, and agents answer what is outdated by then
STREAM_INTERRUPTED = 300  # s; other alerts tell sooner that Redis is away, and a failover takes less
EVENTS_FOR = "2m"  # as for a cause: agents notice it only by missing information

# Service levels
SLA_WINDOW = "15m"  # long enough that a share of the clocks that end means something
SLA_BREACHES = 10  # breaches in SLA_WINDOW; fewer are for the team of the cases, who learn of each by its event
SLA_BREACH_SHARE = 0.2  # share of all clocks that end; targets that are met in four of five cases are met usually
SLA_UNREPORTED_AGE = 120  # s; a breach is reported within 5 s, and after a failover within 10 s

# Traffic, compared with the same hour of the past seven days
TRAFFIC_SPIKE = 4  # multiple of the second highest of the seven days; sales and Mondays stay below three
TRAFFIC_SPIKE_FLOOR = 20  # additional cases in SPIKE_WINDOW, so that a handful in a quiet night is not a spike
SPIKE_WINDOW = "5m"  # detects a spike in minutes, and resolves in as many
TRAFFIC_SILENCE = 0.1  # share of the second lowest of the seven days; a day's noise never comes near
SILENCE_WINDOW = "15m"  # silence takes longer to distinguish from chance
TRAFFIC_SILENCE_FLOOR = 20  # expected cases in SILENCE_WINDOW; two or fewer of 20 by chance: once in 2 million
TRAFFIC_HOUR = "1h"  # range around the same time of day, because rush hours do not start at the same minute
TRAFFIC_PAST = 7  # days of history, with each day of the week once
TRAFFIC_DAYS = 3  # minimum days of history; fewer do not define a usual day

NO_TRAFFIC_WINDOW = "10m"  # agents work at all minutes of a busy hour
NO_TRAFFIC_EXPECTED = 100  # requests in the same hour of yesterday and a week ago; then ten minutes are not empty

# Objectives. A burn rate of 1 uses up the budget in 30 days. Both windows of a pair must burn.
OBJECTIVE_API = 0.999  # share of requests that are not answered by 5xx, over 30 days
OBJECTIVE_TIMELINE = 0.99  # share of reads that are not partial and take less than LATENCY_P95, over 30 days
BURN_FAST = 14.4  # 2 % of the month's budget in an hour
BURN_FAST_WINDOWS = ("1h", "3m")  # the short window ends before the alert on a cause, which is kept for CAUSE_KEPT
BURN_MEDIUM = 6  # 5 % in six hours
BURN_MEDIUM_WINDOWS = ("6h", "30m")
BURN_SLOW = 1  # 10 % in three days
BURN_SLOW_WINDOWS = ("3d", "6h")
BURN_FAST_FOR = "4m"  # longer than DATABASE_FOR: where requests fail at once, the alert on the cause comes first
BURN_SLOW_FOR = "15m"  # pages no person at night, so that the fast alert fires first
BURN_REQUESTS = 30  # requests in a pair's short window; with fewer, one failure would be an incident

# The process
DOWN_FOR = "1m"  # four failed scrapes in a row; a restart takes seconds
REPLICA_DOWN_FOR = "5m"  # longer than a restart and than a node's replacement; other replicas answer meanwhile
NOT_READY_FOR = "10m"  # longer than a start with its migration, and than a failover of the database
METRICS_MISSING_FOR = "5m"  # longer than the probe needs to notice that the service is down
RESTARTS = 3  # in RESTART_WINDOW; a deployment is one
RESTART_WINDOW = "15m"  # a pod that crashes at once is restarted five times in it
MEMORY_SHARE = 0.85  # share of the memory limit, at which the kernel ends the process
SATURATED_SHARE = 0.9  # share of file descriptors, or of connections to the database
CLOCK_OFFSET = 30  # s; leases and tokens allow less than a minute, and time synchronization keeps milliseconds
LOOP_LAG_LONG = 0.1  # s; four times the lag of a busy loop, if it lasts for LOOP_LAG_LONG_FOR
LOOP_LAG_LONG_FOR = "15m"  # longer than an import, or a burst of uploads
LOOP_LAG_P95 = 0.25  # s; every request waits this long besides its own work; ten times the lag of a busy loop

# The audit log
AUDIT_AGE = 300  # s; an entry is sealed within a second or two, and after a failover within this time

# The probe
PROBE_SHARE = 0.8  # share of good runs in PROBE_WINDOW; a run that fails by chance is one of fifteen
PROBE_WINDOW = "15m"  # fifteen runs at the usual interval
PROBE_RECENT = "5m"  # it has runs of both kinds: neither one outage nor what is over is flapping
PROBE_FLAPPING_FOR = "8m"  # by then the alert on a cause has fired, and a single outage of minutes has ended
PROBE_FOR = "5m"  # five failed runs at the usual interval of a minute; a symptom, whose cause has fired by then
INGRESS_FOR = "3m"  # three failed runs through the ingress, while the direct runs succeed
PROBE_MISSING_FOR = "5m"  # longer than the probe's own deployment
