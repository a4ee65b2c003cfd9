"""A name with several addresses: which are tried, for how long, and what their failures say."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from load_truth import TruthServer, client_of
from test_load_client import send_one

from mlscale.loadgen import addresses
from mlscale.loadgen.client import Client, OutOfResources
from mlscale.runs import Status

REFUSES, LACKS = (OSError(code, os.strerror(code)) for code in (errno.ECONNREFUSED, errno.EADDRNOTAVAIL))
SILENT, WORKS = "drops what it is sent", "is the server's"


class Name:
    """Stands for a name's look-up and for the network behind its addresses."""

    def __init__(self, truth: TruthServer, **does: OSError | str) -> None:
        self.does: dict[str, OSError | str] = does
        self.found: list[str] | OSError = list(does)
        self.answered = asyncio.Event()
        self.answered.set()
        self.lookups = 0
        self.tried: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._connect = self._loop.create_connection
        self._loop.getaddrinfo = self._look_up  # type: ignore[method-assign]
        self._loop.create_connection = self._try  # type: ignore[assignment]
        self._port = int(truth.url.rpartition(":")[2])

    def client(self, timeout_s: float = 20.0) -> Client:
        return client_of("http://name/", timeout_s=timeout_s)

    async def _look_up(self, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        self.lookups += 1
        await self.answered.wait()
        if isinstance(self.found, OSError):
            raise self.found
        return [(0, 0, 0, "", (address, 80)) for address in self.found]

    async def _try(self, protocol: Any, address: str, port: int, **_: Any) -> Any:
        self.tried.append(address)
        does = self.does[address]
        if isinstance(does, OSError):
            raise does
        if does == SILENT:
            await asyncio.Event().wait()
        return await self._connect(protocol, "127.0.0.1", self._port)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


@pytest.mark.parametrize("does", [{"a": REFUSES, "b": LACKS}, {"a": LACKS, "b": REFUSES}])
def test_a_refusal_counts_although_ipv6_is_off(truth: TruthServer, does: dict[str, OSError]) -> None:
    async def work() -> None:
        assert (await send_one(Name(truth, **does).client())).status == "refused"

    run(work)


def test_what_this_machine_lacks_is_told_if_no_address_says_more(truth: TruthServer) -> None:
    async def work() -> None:
        with pytest.raises(OutOfResources):
            await send_one(Name(truth, a=LACKS, b=LACKS).client())

    run(work)


def test_no_port_left_for_the_address_that_worked_is_no_refusal_by_another(truth: TruthServer) -> None:
    async def work() -> None:
        name = Name(truth, a=REFUSES, b=WORKS)
        client = name.client()
        assert (await send_one(client)).status == "ok"
        name.does["b"] = LACKS
        with pytest.raises(OutOfResources):
            await send_one(client)

    run(work)


def test_an_address_that_is_silent_delays_one_request_only(truth: TruthServer) -> None:
    async def work() -> None:
        name = Name(truth, a=SILENT, b=WORKS)
        client = name.client(timeout_s=1.0)
        assert [(await send_one(client)).status for _ in range(3)] == ["ok"] * 3
        assert name.tried == ["a", "b", "b", "b"]

    run(work)


@pytest.mark.parametrize(("later", "status"), [(SILENT, "timeout"), (WORKS, "ok")])
def test_a_silent_address_gets_the_rest_of_the_time_if_no_other_works(
    truth: TruthServer, later: str, status: Status
) -> None:
    async def work() -> None:
        name = Name(truth, a=SILENT, b=REFUSES)
        request = asyncio.ensure_future(send_one(name.client(timeout_s=1.0)))
        while "b" not in name.tried:
            name.does["a"] = later if name.tried else SILENT
            await asyncio.sleep(0)
        assert (await request).status == status
        assert name.tried == ["a", "b", "a"]

    run(work)


def test_requests_share_a_look_up_and_wait_for_none_but_the_first(
    truth: TruthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        name = Name(truth, a=WORKS)
        client = name.client()
        await asyncio.gather(*(send_one(client, number) for number in range(5)))
        assert name.lookups == 1
        name.answered.clear()
        monkeypatch.setattr(addresses, "_LOOKUP_S", 0.0)
        begun_s = time.monotonic()
        assert [(await send_one(client)).status for _ in range(3)] == ["ok"] * 3
        assert time.monotonic() - begun_s < 10
        assert name.lookups == 2, "under way"

    run(work)


def test_a_look_up_that_fails_leaves_the_old_addresses(truth: TruthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(addresses, "_LOOKUP_S", 0.0)
        name = Name(truth, a=WORKS)
        client = name.client()
        assert (await send_one(client)).status == "ok"
        name.found = OSError("no answer")
        assert [(await send_one(client)).status for _ in range(3)] == ["ok"] * 3
        assert name.lookups > 1

    run(work)
