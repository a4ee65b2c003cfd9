"""All arrays of a simulated world together, as the compiled kernel takes them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlscale_twin.compiled import compiled
from mlscale_twin.earliest import Owners, Times
from mlscale_twin.generator import Words

Records = npt.NDArray[np.void]
Arrays = tuple[Any, ...]
"""A `Memory` as a plain tuple, which numba takes from Python much faster than one with names."""
Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


class Memory(NamedTuple):
    """One world. Records are those of `layout`.

    ``queues`` (stations + replicas, rows): rings of request rows, one for each station, then one for each replica (of
    a polled queue's: those that it will reject).
    ``idle``, ``ready`` (stations, replicas): a ring of replicas without work; those that take requests.
    ``askers`` (stations, `layout.ASKERS`): who ask for a polled queue.
    ``asked_s`` (replicas,): CPU time that being asked has cost in the present service and is still to be spent.
    ``ends_s``, ``ends``: tournament (`first`) of replicas by the end of their service. ``sends_s``, ``sends``: of
    clients by their next request.
    ``due_s``: send times of an open loop, as far as drawn. ``order`` (clients or 1, photos): who sends which photo.
    ``thinks_s`` (clients, n): think times. ``from_s``, ``to_s`` (clients, intervals): when each client is active.
    ``sent`` (clients,): requests of each so far. ``work_s`` (stations, photos, samples): measured service times.
    ``calls`` (photos, samples): how often the front component calls the second one.
    ``totals`` (statuses,), ``bins`` (`layout.BINS`,): statistics. ``words``: the random numbers' state.
    """

    world: Records
    parameters: Records
    stations: Records
    replicas: Records
    requests: Records
    queues: Whole
    idle: Whole
    ready: Whole
    askers: Records
    asked_s: Floats
    ends_s: Times
    ends: Owners
    sends_s: Times
    sends: Owners
    due_s: Floats
    order: Whole
    thinks_s: Floats
    from_s: Floats
    to_s: Floats
    sent: Whole
    work_s: Floats
    calls: Whole
    rows: Records
    totals: Records
    bins: Whole
    words: Words


@compiled
def memory_of(arrays: Arrays) -> Memory:
    """With names again."""
    return Memory(
        arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], arrays[5], arrays[6], arrays[7],
        arrays[8], arrays[9], arrays[10], arrays[11], arrays[12], arrays[13], arrays[14], arrays[15],
        arrays[16], arrays[17], arrays[18], arrays[19], arrays[20], arrays[21], arrays[22], arrays[23],
        arrays[24], arrays[25],
    )  # fmt: skip
