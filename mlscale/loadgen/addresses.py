"""The addresses of a name, and which of them to try first."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from typing import Final

# A name's addresses are looked up again after that long: load balancers change theirs.
_LOOKUP_S: Final = 10.0


class Addresses:
    """The addresses of ``host`` in the order of its look-up, those whose last attempt failed at the end."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._loop = asyncio.get_running_loop()
        self._known: list[str] = []
        self._worked: dict[str, bool] = {}
        self._lookup: asyncio.Task[None] | None = None
        self._looked_up_s = -math.inf

    async def known(self) -> list[str]:
        """Empty if the name can't be looked up. Only the first look-up is waited for: later, the old ones are used."""
        if not self._known or time.monotonic() - self._looked_up_s > _LOOKUP_S:
            lookup = self._lookup = self._lookup or self._loop.create_task(self._look_up())
            if not self._known:
                await asyncio.wait({lookup})
        return self._known

    def works(self, address: str) -> bool:
        """Whether it worked when it was last tried."""
        return self._worked.get(address, False)

    def tried(self, address: str, *, worked: bool) -> None:
        """Remember whether it worked."""
        if self._worked.get(address) is not worked:
            self._worked[address] = worked
            self._known = sorted(self._known, key=self._has_failed)

    def _has_failed(self, address: str) -> bool:
        return not self._worked.get(address, True)

    async def _look_up(self) -> None:
        try:
            found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._known = sorted((str(entry[4][0]) for entry in found), key=self._has_failed)
        except OSError:
            return
        finally:
            self._looked_up_s, self._lookup = time.monotonic(), None
