"""The tables of a run and their columns (DESIGN §4). Times are float seconds on the run's clock."""

from __future__ import annotations

from dataclasses import fields
from typing import Final, Literal

import pyarrow as pa

from mlscale.runs.observations import Event, Observation, ReplicaSample, ResourceSample

TableName = Literal["requests", "hops", "replicas", "events", "resources"]

Status = Literal["ok", "http_4xx", "http_5xx", "timeout", "refused", "reset", "wrong_answer", "unfinished"]
"""How a request ended (METHOD §1). ``unfinished``: still open at the run's end."""


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


_TIME, _TEXT, _COUNT = pa.float64(), pa.string(), pa.int32()


def _of(observation: type[Observation]) -> pa.Schema:
    """The fields of an observation as columns; everything that is not a number is text."""
    numbers = {"float": _TIME, "int": _COUNT, "int | None": _COUNT}
    return pa.schema([(field.name, numbers.get(str(field.type), _TEXT)) for field in fields(observation)])


# Columns as runs of schema 1 call them, by their present names; `mlscale.runs.run` renames them.
FORMER_NAMES: Final = {"body_id": "photo_id"}
# ``connect_s`` is the duration of TCP connect (NaN on a kept connection, never NaN on a fresh one that connected);
# ``first_byte_s`` and ``done_s`` are moments (NaN where never reached; a timed-out request's done_s is the moment it
# was abandoned); ``replica_id`` is empty if the server doesn't report it; ``detail`` is JSON.
SCHEMAS: Final[dict[TableName, pa.Schema]] = {
    "requests": _schema(
        request_id=pa.int64(),
        client_id=_COUNT,
        body_id=_TEXT,
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
    "replicas": _of(ReplicaSample),
    "events": _of(Event),
    "resources": _of(ResourceSample),
}
