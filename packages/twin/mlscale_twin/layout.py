"""Memory layout of the simulated world: record arrays that the compiled kernel writes and Python reads between its
steps.

Times are seconds since the run's start, work is CPU seconds. A request's row is its number modulo the table's length:
rows from the oldest open request on are in use. Rings and the table have power-of-two sizes.
"""

from __future__ import annotations

from typing import Final

import numpy as np

FIXED, EXPONENTIAL, MEASURED = range(3)
"""Distribution of service times: constant; exponential; measured for the same photo."""
SHARED_QUEUE, POLLED_QUEUE, RANDOM, ROUND_ROBIN, LEAST_OUTSTANDING, TWO_CHOICES = range(6)
"""How a request is routed. With the first two it waits in one queue, else in each replica's own. A polled queue is not
notified when a replica is free: it polls."""
# Most pollers of one station (Ray Serve: `max_num_routing_tasks_cap`).
MAX_POLLERS: Final = 50
# Index that means: no poller, no replica, no request.
NONE: Final = -1
# Cached queue length of a new replica: so long that the replica has to be polled.
UNKNOWN_LENGTH: Final = 2**40
ABSENT, READY, DRAINING = range(3)
"""State of a replica: not present; takes requests; finishes those it has."""
WAITING, SENT, IN_SERVICE, AWAITING_CALL, DONE, REJECTED = range(6)
"""State of a request at the servers: queued; sent to a replica that will reject it; in service; its replica waits for a
call; answered; refused on arrival."""
OK, TIMED_OUT, REFUSED, LOST = range(4)
"""How a request ended for its client: 200; timeout; 503 from a full queue; 5xx from a replica that failed."""
# Work of an idle replica.
NO_WORK: Final = -1.0
TIME_REACHED, NEED_SEND_TIMES, NEED_OUTPUT_ROWS, NEED_REQUEST_ROWS = range(4)
"""Why the kernel returned: it reached the requested time; send times, output rows or rows for open requests ran out."""

# Constants of a run. ``timeout_s``: client timeout. ``cancels``: whether the server drops timed-out requests.
# ``overhead_s``: between client and queue, round trip. ``records``: whether each request is written out. ``begin_s``:
# statistics cover requests sent from then on. ``polled``: whether any queue is.
PARAMETERS: Final = np.dtype(
    [
        ("service", "i8"),
        ("mean_s", "f8"),
        ("quota_cores", "f8"),
        ("period_s", "f8"),
        ("timeout_s", "f8"),
        ("cancels", "i8"),
        ("overhead_s", "f8"),
        ("closed", "i8"),
        ("records", "i8"),
        ("begin_s", "f8"),
        ("polled", "i8"),
    ],
    align=True,
)

# One record: the kernel's state. ``sequence``: requests sent. ``due_index``, ``photo_index``: of an open loop's next
# request. ``rows``: of output. ``oldest``, ``oldest_unanswered``: lower bounds on the first request that is still at
# a server, and on the first that a client still waits for (advanced only when needed).
WORLD: Final = np.dtype(
    [
        ("now_s", "f8"),
        ("sequence", "i8"),
        ("oldest", "i8"),
        ("due_index", "i8"),
        ("photo_index", "i8"),
        ("rows", "i8"),
        ("oldest_unanswered", "i8"),
    ],
    align=True,
)

# One for each component. ``queue_limit``: requests that may wait, at the station or in each replica. ``holds``: whether
# they wait at the station while no replica with its own queue is ready. ``poll_cpu_s``:
# CPU of a busy replica for a poll or for rejecting a request. ``pollers``: of a polled queue, at most
# ``pollers_per_replica`` per ready replica, with exponential backoff. ``ahead_cpu_s``, ``after_cpu_s``: work on
# a request before its service clock starts, and after its answer is sent. ``waits_s``: for which a request then keeps
# its replica without CPU. ``ongoing_integral``: requests queued and
# in service, integrated over time, request seconds. ``samples``: how often ``ongoing`` was sampled so far, at
# ``sample_first_s`` and every ``sample_period_s`` after it; ``sample_at_s``: when it is next.
STATIONS: Final = np.dtype(
    [
        ("routing", "i8"),
        ("queue_limit", "i8"),
        ("holds", "i8"),
        ("stale_s", "f8"),
        ("poll_cpu_s", "f8"),
        ("ahead_cpu_s", "f8"),
        ("after_cpu_s", "f8"),
        ("waits_s", "f8"),
        ("initial_backoff_s", "f8"),
        ("backoff_multiplier", "f8"),
        ("max_backoff_s", "f8"),
        ("pollers_per_replica", "i8"),
        ("pollers", "i8"),
        ("ready", "i8"),
        ("head", "i8"),
        ("waiting", "i8"),
        ("ongoing", "i8"),
        ("ongoing_integral", "f8"),
        ("samples", "i8"),
        ("sample_first_s", "f8"),
        ("sample_period_s", "f8"),
        ("sample_at_s", "f8"),
        ("round_robin_index", "i8"),
        ("idle_head", "i8"),
        ("idle", "i8"),
    ],
    align=True,
)

# ``serial``: unique, unlike the slot. ``request``: the row in service, -1: none. ``outstanding``: queued here and in
# service. ``period``, ``used_s``: the last CFS period in which it ran, and for how long; ``began_*``: the same when
# the present service of ``work_s`` began (`NO_WORK` between services). ``cpu_s``: of completed services.
# ``seen_length``: the queue length that two-choices routing last saw, at ``seen_at_s``. ``clock_s``: when the clock
# of the present service started. ``cleaned_up_s``: when the work that follows the last answer is done. For a polled
# queue: ``cached_length``: the queue length in the router's cache; ``newly_sent``: requests sent at this moment, not
# in the cache yet; ``rejects_s``: when the replica rejects requests that were sent while it was busy.
REPLICAS: Final = np.dtype(
    [
        ("station", "i8"),
        ("serial", "i8"),
        ("state", "i8"),
        ("request", "i8"),
        ("head", "i8"),
        ("outstanding", "i8"),
        ("period", "i8"),
        ("phase_s", "f8"),
        ("used_s", "f8"),
        ("began_s", "f8"),
        ("began_period", "i8"),
        ("began_used_s", "f8"),
        ("work_s", "f8"),
        ("cpu_s", "f8"),
        ("seen_length", "i8"),
        ("seen_at_s", "f8"),
        ("clock_s", "f8"),
        ("cleaned_up_s", "f8"),
        ("cached_length", "i8"),
        ("newly_sent", "i8"),
        ("rejects_s", "f8"),
    ],
    align=True,
)

# A poller looks for a free replica (Ray Serve: a routing task). ``at_s``: when it next acts, or when the answers of the
# polled replicas arrive (`NONE`: none is polled). ``backoff_s``: the last pause, 0 before the first, `JUST_STARTED`
# before the second look, which follows at once. ``row``: the request it polls for.
POLLERS: Final = np.dtype(
    [("at_s", "f8"), ("backoff_s", "f8"), ("row", "i8"), ("polled_first", "i8"), ("polled_second", "i8")], align=True
)
JUST_STARTED: Final = -1.0

# ``replica``: of the front component. ``calls``: still to be made to the second component. ``poller``: its poller in a
# polled queue. ``queued_s``: when it joined its present queue.
REQUESTS: Final = np.dtype(
    [
        ("number", "i8"),
        ("client", "i8"),
        ("photo", "i8"),
        ("state", "i8"),
        ("answered", "i8"),
        ("replica", "i8"),
        ("calls", "i8"),
        ("station", "i8"),
        ("poller", "i8"),
        ("intended_s", "f8"),
        ("queued_s", "f8"),
        ("began_s", "f8"),
        ("queue_s", "f8"),
        ("inference_s", "f8"),
    ],
    align=True,
)

# One for each request that ended for its client. ``replica`` -1, times NaN: no answer.
ROWS: Final = np.dtype(
    [
        ("number", "i8"),
        ("client", "i8"),
        ("photo", "i8"),
        ("status", "i8"),
        ("replica", "i8"),
        ("intended_s", "f8"),
        ("done_s", "f8"),
        ("queue_s", "f8"),
        ("inference_s", "f8"),
    ],
    align=True,
)

BINS: Final = 2048
BIN_SHIFT: Final = 46
# Response times are counted in 64 bins per doubling from 2^-20 s on: a double's exponent and the first six bits of its
# mantissa. A bin is 0.8 to 1.6 % wide.
FIRST_BIN: Final = (1023 - 20) << 6

# Sums of response times, one record per status.
TOTALS: Final = np.dtype([("count", "i8"), ("sum_s", "f8"), ("squares_s2", "f8")], align=True)
