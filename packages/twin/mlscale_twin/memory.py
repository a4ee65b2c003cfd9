"""All arrays of a simulated world together, as the compiled kernel takes them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlscale_twin.compiled import compiled
from mlscale_twin.generator import RngState
from mlscale_twin.tournament import Owners, Times

Records = npt.NDArray[np.void]
Arrays = tuple[Any, ...]
"""A `Memory` as a plain tuple, which numba takes from Python much faster than one with names."""
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Memory(NamedTuple):
    """One world. Records are those of `layout`.

    ``queues`` (stations + replicas, rows): rings of request rows, one for each station, then one for each replica (of
    a polled queue's: those that it will reject).
    ``idle``, ``ready`` (stations, replicas): a ring of idle replicas; the replicas that take requests.
    ``pollers`` (stations, `layout.MAX_POLLERS`): of a polled queue.
    ``pending_poll_s`` (replicas,): CPU time of polls during the present service, not yet added to its end.
    ``end_times_s``, ``end_owners``: tournament (`tournament.build`) of replicas by the end of their service.
    ``send_times_s``, ``send_owners``: of clients by their next request.
    ``due_s``: send times of an open loop, as far as drawn. ``photo_order`` (clients or 1, photos): photos to
    send.
    ``think_times_s`` (clients, n): think times. ``active_from_s``, ``active_to_s`` (clients, intervals): when each
    client is active.
    ``sent_counts`` (clients,): requests so far. ``work_samples_s`` (stations, photos, samples): measured work.
    ``call_counts`` (photos, samples): how often the front component calls the second one.
    ``totals`` (statuses,), ``bins`` (`layout.BINS`,): statistics. ``rng_state``: of `generator`.
    ``samples`` (stations, n): a ring of the last numbers of requests queued and in service (`STATIONS`).
    """

    world: Records
    parameters: Records
    stations: Records
    replicas: Records
    requests: Records
    queues: Integers
    idle: Integers
    ready: Integers
    pollers: Records
    pending_poll_s: Floats
    end_times_s: Times
    end_owners: Owners
    send_times_s: Times
    send_owners: Owners
    due_s: Floats
    photo_order: Integers
    think_times_s: Floats
    active_from_s: Floats
    active_to_s: Floats
    sent_counts: Integers
    work_samples_s: Floats
    call_counts: Integers
    rows: Records
    totals: Records
    bins: Integers
    rng_state: RngState
    samples: Integers


@compiled
def memory_of(arrays: Arrays) -> Memory:
    """The inverse: a `Memory` from its plain tuple."""
    return Memory(
        arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], arrays[5], arrays[6], arrays[7],
        arrays[8], arrays[9], arrays[10], arrays[11], arrays[12], arrays[13], arrays[14], arrays[15],
        arrays[16], arrays[17], arrays[18], arrays[19], arrays[20], arrays[21], arrays[22], arrays[23],
        arrays[24], arrays[25], arrays[26],
    )  # fmt: skip
