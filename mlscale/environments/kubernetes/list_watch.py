"""List, then watch: changes of objects as they happen, resumed from resourceVersion, listed again on 410 Gone.

`Follower` is the protocol, pure; `Reflector` runs it against an API server in a thread. The official client has no such
reflector: its ``Watch`` neither lists nor says what changed during a gap.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from mlscale.environments.kubernetes.client import Api, Json, Query, Refused, Stream
from mlscale.runs import MlscaleError

_GONE: Final = 410
_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the object ``thing``, seen at ``t`` (time.monotonic()) and ``wall``. ``source``: name of the watch;
    ``gap_s``: how long nothing could be seen before, 0 while the watch is up."""

    source: str
    kind: Literal["ADDED", "MODIFIED", "DELETED"]
    thing: Json
    t: float
    wall: datetime
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The watch ``source`` was given up; ``error`` says why."""

    source: str
    error: MlscaleError


class Relist(Exception):  # noqa: N818 (what to do)
    """The version to resume from is too old: list again."""


class Follower:
    """The known state of some objects: turns lists and watch events into changes.

    A later list yields only the differences, deletions included. A relist therefore misses only objects that were both
    created and deleted in between.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.version = ""
        """The resourceVersion to resume the watch from."""
        self._known: dict[str, Json] = {}
        self._seen_t: float | None = None

    def listed(self, listing: Json, t: float, wall: datetime) -> list[Change]:
        """The changes that a list shows."""
        gap_s = 0.0 if self._seen_t is None else t - self._seen_t
        self.version = listing["metadata"]["resourceVersion"]
        current = {str(item["metadata"]["uid"]): item for item in listing.get("items") or ()}
        deleted = [
            Change(self.source, "DELETED", self._known[uid], t, wall, gap_s) for uid in self._known.keys() - current
        ]
        changes = [change for uid, item in current.items() if (change := self._difference(uid, item, t, wall, gap_s))]
        self._known, self._seen_t = current, t
        return deleted + changes

    def event(self, event: Json, t: float, wall: datetime) -> list[Change]:
        """The changes that a watch event shows; none for a bookmark.

        Raises:
            Relist: the version is too old for the server (410).
            Refused: the server ended the watch for another reason.
        """
        kind, thing = event["type"], event["object"]
        if kind == "ERROR":
            code = int(thing.get("code", 0))
            if code == _GONE:
                raise Relist
            raise Refused(code, str(thing.get("reason", "")), str(thing.get("message", "")), "watch", self.source)
        self.version, self._seen_t = thing["metadata"]["resourceVersion"], t
        if kind == "BOOKMARK":
            return []
        uid = str(thing["metadata"]["uid"])
        if kind == "DELETED":
            self._known.pop(uid, None)
        else:
            self._known[uid] = thing
        return [Change(self.source, kind, thing, t, wall)]

    def _difference(self, uid: str, item: Json, t: float, wall: datetime, gap_s: float) -> Change | None:
        before = self._known.get(uid)
        if before is None:
            return Change(self.source, "ADDED", item, t, wall, gap_s)
        if before["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            return Change(self.source, "MODIFIED", item, t, wall, gap_s)
        return None


class Reflector:
    """Follows one list of objects in a thread; puts changes into ``out``, and one `Lost` if it gives up.

    Args:
        path, query: of the list; the query may hold a label selector.
        patience_s: how long the server may be unreachable before the watch is given up, s.
    """

    def __init__(
        self,
        api: Api,
        source: str,
        path: str,
        out: queue.SimpleQueue[Change | Lost],
        *,
        query: Query | None = None,
        patience_s: float = 20.0,
    ) -> None:
        self._api, self._path, self._query, self._out = api, path, query or {}, out
        self._patience_s = patience_s
        self.follower = Follower(source)
        self._stop = threading.Event()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {source}", daemon=True)

    def start(self) -> None:
        """Start; the objects of the first list come as ADDED."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; its watch is closed."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        good_t = time.monotonic()
        listed = False
        while not self._stop.is_set():
            try:
                if not listed:
                    self._emit(self.follower.listed(self._api.get(self._path, self._query), *_now()))
                    listed, good_t = True, time.monotonic()
                for event in self._events():
                    self._emit(self.follower.event(event, *_now()))
                    good_t = time.monotonic()
                good_t = time.monotonic()  # the server ended the watch regularly
            except Relist:
                listed = False
            except Refused as refused:
                listed = False
                if refused.status not in (_GONE, 429) and refused.status < 500:
                    self._out.put(Lost(self.follower.source, refused.as_error(self._api.server)))
                    return
                self._stop.wait(_PAUSE_S)
            except (MlscaleError, OSError) as error:
                if self._stop.is_set():
                    return
                if time.monotonic() - good_t > self._patience_s:
                    self._out.put(Lost(self.follower.source, self._lost_error(error)))
                    return
                self._stop.wait(_PAUSE_S)

    def _events(self) -> Iterator[Json]:
        stream = self._api.watch(self._path, self.follower.version, self._query)
        self._stream = stream
        try:
            if self._stop.is_set():
                return
            yield from stream
        finally:
            self._stream = None
            stream.close()

    def _emit(self, changes: list[Change]) -> None:
        for change in changes:
            self._out.put(change)

    def _lost_error(self, error: MlscaleError | OSError) -> MlscaleError:
        what = error.what if isinstance(error, MlscaleError) else str(error)
        return MlscaleError(
            f"{self.follower.source} could not be watched for {self._patience_s:g} s: {what}",
            self._api.server,
            "check that the cluster still runs",
        )


def _now() -> tuple[float, datetime]:
    return time.monotonic(), datetime.now(UTC)


def stamp(text: Any) -> datetime | None:
    """A Kubernetes time stamp ("2026-11-25T02:44:17Z", also with microseconds); None if it is missing."""
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None


def known_within(change: Change, text: Any) -> float:
    """How long before it was seen ``change`` may have happened, s.

    Kubernetes truncates its time stamps to whole seconds, so it happened within a second after ``text`` by the server's
    clock; if that clock is ahead of ours, 1 s is taken.
    """
    stamped = stamp(text)
    if stamped is None:
        return max(1.0, change.gap_s)
    age_s = (change.wall - stamped).total_seconds()
    return max(age_s, change.gap_s) if age_s >= 0 else max(1.0, change.gap_s)
