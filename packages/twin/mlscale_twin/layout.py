"""Memory layout of the simulated world: record arrays that the compiled kernel writes and Python reads between its
steps.

Times are seconds since the run's start, work is CPU seconds. A request's row is its number modulo the table's length:
rows from the oldest open request on are in use. Rings and the table have power-of-two sizes.
"""

from __future__ import annotations

from typing import Final

import numpy as np

FIXED, EXPONENTIAL, MEASURED = range(3)
"""Where service times come from: the mean; the mean, exponentially distributed; measured ones of the same photo."""
PLAIN, QUOTA, SHARED_CORES = range(3)
"""What serving takes: the work itself; work under a CPU quota (CFS periods); work on cores that all share evenly."""
SHARED_QUEUE, POLLED_QUEUE, RANDOM, ROUND_ROBIN, LEAST_OUTSTANDING, TWO_CHOICES = range(6)
"""How a request finds a replica. All but the first two have a queue in each replica; with the second, nobody tells the
queue that a replica is free: it asks."""
# Who ask for one station, at most (Ray Serve: `max_num_routing_tasks_cap`).
ASKERS: Final = 50
# No asker, no replica, no request.
NOBODY: Final = -1
# What the books say of a replica that is new: so long a queue that it has to be asked.
UNKNOWN: Final = 2**40
ABSENT, READY, DRAINING = range(3)
"""A replica's state: it is not there; takes requests; finishes those it has."""
WAITING, SENT, SERVED, HELD, DONE, REJECTED = range(6)
"""A request's state at the servers: in a queue; sent to a replica that will not have it; in service; its replica waits
for a call; answered; never taken."""
OK, TIMED_OUT, REFUSED, LOST = range(4)
"""How a request ended for its client: 200; given up; 503 from a full queue; 5xx from a replica that went."""
# Of a replica that does not work.
NO_WORK: Final = -1.0
RUNNING, MORE_DUE, MORE_ROWS, MORE_ROOM = range(4)
"""Why the kernel came back: it reached the time asked for; the send times, the output or the table of open requests
are used up."""

# Constants of a run. ``timeout_s``: when a client gives up. ``cancels``: whether the server drops what was given up.
# ``overhead_s``: between client and queue, both ways together. ``records``: whether each request is written out;
# ``begin_s``: statistics count requests sent from here on. ``polled``: whether any queue is.
PARAMETERS: Final = np.dtype(
    [
        ("service", "i8"),
        ("mean_s", "f8"),
        ("cpu", "i8"),
        ("quota_cores", "f8"),
        ("period_s", "f8"),
        ("cores", "f8"),
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

# One record: what the kernel is at. ``virtual_s``: work done so far by each request on shared cores, of which
# ``active`` are served; ``sequence``: requests sent; ``due_at``: next send time; ``photo_at``: of the next request of
# an open loop; ``rows``: of output; ``oldest``, ``oldest_unanswered``: no later than the first request that is still at
# a server, and that a client still waits for (they are moved on where that is asked).
WORLD: Final = np.dtype(
    [
        ("now_s", "f8"),
        ("virtual_s", "f8"),
        ("active", "i8"),
        ("sequence", "i8"),
        ("oldest", "i8"),
        ("due_at", "i8"),
        ("photo_at", "i8"),
        ("rows", "i8"),
        ("oldest_unanswered", "i8"),
    ],
    align=True,
)

# One for each component. ``queue_limit``: requests that may wait, at the station or in each replica. ``ask_cpu_s``:
# what it costs a replica at work to be asked whether it is free, or to reject a request, by one of the ``askers`` of a
# polled queue, at most ``askers_each`` for each ready replica, who pause between ``first_pause_s`` and
# ``longest_pause_s``, each time ``growth`` times as long. ``ahead_cpu_s``, ``after_cpu_s``: a replica's work on a
# request before the clock of its service starts, and after its answer is out. ``ongoing_integral``: requests queued and
# in service, summed over time, request seconds.
STATIONS: Final = np.dtype(
    [
        ("routing", "i8"),
        ("queue_limit", "i8"),
        ("stale_s", "f8"),
        ("ask_cpu_s", "f8"),
        ("ahead_cpu_s", "f8"),
        ("after_cpu_s", "f8"),
        ("first_pause_s", "f8"),
        ("growth", "f8"),
        ("longest_pause_s", "f8"),
        ("askers_each", "i8"),
        ("askers", "i8"),
        ("ready", "i8"),
        ("head", "i8"),
        ("waiting", "i8"),
        ("ongoing", "i8"),
        ("ongoing_integral", "f8"),
        ("turn", "i8"),
        ("idle_head", "i8"),
        ("idle", "i8"),
        ("arrived", "i8"),
    ],
    align=True,
)

# ``serial``: its own number, where places are used again. ``request``: the row in service, -1: none. ``outstanding``:
# in its queue and in service. ``period``, ``used_s``: the last CFS period in which it ran, and for how long;
# ``began_*``: the same when the present service began, of ``work_s`` (`NO_WORK` between services; on shared cores,
# ``began_used_s`` is the world's ``virtual_s`` then). ``cpu_s``: of all services ended. ``seen``: the length that
# routing by two choices last saw, at ``seen_at_s``. ``clock_s``: when the clock of the present service started;
# ``clears_s``: until when it takes what follows the last answer. Of a polled queue's: ``booked``: how many requests its
# router takes the replica to have; ``sent``: those that it sent at this moment; ``hears_s``: when the replica hears of,
# and rejects, those sent in vain.
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
        ("seen", "i8"),
        ("seen_at_s", "f8"),
        ("clock_s", "f8"),
        ("clears_s", "f8"),
        ("booked", "i8"),
        ("sent", "i8"),
        ("hears_s", "f8"),
    ],
    align=True,
)

# One who asks for a free replica. ``at_s``: when next, or when the answer of those ``asked`` is heard (`NOBODY`: none
# was); ``pause_s``: the last pause, 0 before the first, `FRESH` before the second look, which is at once. ``row``: the
# request for which it asks.
ASKING: Final = np.dtype(
    [("at_s", "f8"), ("pause_s", "f8"), ("row", "i8"), ("asked", "i8"), ("asked_too", "i8")], align=True
)
FRESH: Final = -1.0

# ``replica``: of the front component; ``calls``: still to be made to the second component; ``asker``: who asks for it,
# in a polled queue; ``queued_s``: when it joined the queue that it is in.
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
        ("asker", "i8"),
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
# Response times are counted in 64 bins for each doubling from 2^-20 s on: a double's exponent and the first six bits of
# its mantissa. A bin is 0.8 to 1.6 % wide.
FIRST_BIN: Final = (1023 - 20) << 6

# For each status: what the statistics need of the response times.
TOTALS: Final = np.dtype([("count", "i8"), ("sum_s", "f8"), ("squares_s2", "f8"), ("waits_s", "f8")], align=True)
