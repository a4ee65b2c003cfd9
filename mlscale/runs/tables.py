"""The tables of a run and their columns (DESIGN §4). Times are float seconds on the run's clock."""

from __future__ import annotations

from typing import Final, Literal

import pyarrow as pa

TableName = Literal["requests", "hops", "replicas", "events", "resources"]

Status = Literal["ok", "http_4xx", "http_5xx", "timeout", "refused", "reset", "wrong_answer", "unfinished"]
"""How a request ended (METHOD §1). ``unfinished``: still open at the run's end."""


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


_TIME, _TEXT, _COUNT = pa.float64(), pa.string(), pa.int32()

# ``connect_s`` is the duration of TCP connect (NaN on a kept connection, never NaN on a fresh one that connected);
# ``first_byte_s`` and ``done_s`` are moments (NaN where never reached; a timed-out request's done_s is the moment it
# was abandoned); ``replica_id`` is empty if the server doesn't report it; ``detail`` is JSON.
SCHEMAS: Final[dict[TableName, pa.Schema]] = {
    "requests": _schema(
        request_id=pa.int64(),
        client_id=_COUNT,
        photo_id=_TEXT,
        load_stage=_COUNT,
        intended_s=_TIME,
        sent_s=_TIME,
        connect_s=_TIME,
        first_byte_s=_TIME,
        done_s=_TIME,
        status=_TEXT,
        replica_id=_TEXT,
        queue_s=_TIME,
        inference_s=_TIME,
        bytes_in=pa.int64(),
    ),
    "hops": _schema(
        request_id=pa.int64(),
        component=_TEXT,
        replica_id=_TEXT,
        start_s=_TIME,
        queue_s=_TIME,
        inference_s=_TIME,
    ),
    "replicas": _schema(
        t_s=_TIME,
        component=_TEXT,
        desired=_COUNT,
        starting=_COUNT,
        ready=_COUNT,
        machines_desired=_COUNT,
        machines_ready=_COUNT,
    ),
    "events": _schema(
        t_s=_TIME,
        component=_TEXT,
        kind=_TEXT,
        subject=_TEXT,
        source_time=_TEXT,
        known_within_s=_TIME,
        detail=_TEXT,
    ),
    "resources": _schema(
        t_s=_TIME,
        component=_TEXT,
        subject=_TEXT,
        role=_TEXT,
        cpu_cores=_TIME,
        rss_bytes=_TIME,
        nr_periods=_TIME,
        nr_throttled=_TIME,
        throttled_s=_TIME,
        psi_avg10_pct=_TIME,
        stolen_cores=_TIME,
    ),
}
