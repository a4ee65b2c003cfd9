"""Follows the objects of one list at the API server: list, then watch, for ever; what breaks is listed anew."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

logger = logging.getLogger(__name__)

_PAUSE_S: Final = 0.5
_WATCH_S: Final = 240


class Following:
    """``objects`` by uid, as they are now; ``listed`` once they are known at all.

    Args:
        server: URL of the API server; ``context``: who asks it.
        path: of the list, such as "api/v1/pods".
        changed: called after each change.
    """

    def __init__(
        self,
        server: str,
        context: ssl.SSLContext,
        path: str,
        query: Mapping[str, str] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.listed = False
        self._url, self._context = f"{server}/{path}", context
        self._query, self._changed = dict(query or {}), changed

    async def run(self) -> None:
        """Follow until cancelled."""
        async with ClientSession(connector=TCPConnector(ssl=self._context)) as session:
            while True:
                try:
                    version = await self._list(session)
                    async for event in self._watch(session, version):
                        self._take(event)
                except (ClientError, TimeoutError, ValueError, KeyError) as error:
                    logger.warning("%s can't be followed: %s", self._url, error)
                await asyncio.sleep(_PAUSE_S)

    async def _list(self, session: ClientSession) -> str:
        async with session.get(self._url, params=self._query) as response:
            response.raise_for_status()
            listing = await response.json()
        self.objects = {item["metadata"]["uid"]: item for item in listing["items"]}
        self.listed = True
        self._changed()
        version: str = listing["metadata"]["resourceVersion"]
        return version

    async def _watch(self, session: ClientSession, version: str) -> AsyncIterator[dict[str, Any]]:
        asked = {**self._query, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(_WATCH_S)}
        timeout = ClientTimeout(total=_WATCH_S + 30)
        async with session.get(self._url, params=asked, timeout=timeout) as response:
            response.raise_for_status()
            async for line in response.content:
                yield json.loads(line)

    def _take(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "ERROR":
            raise ValueError(event["object"].get("message", "the watch ended"))
        uid = event["object"]["metadata"]["uid"]
        if event["type"] == "DELETED":
            self.objects.pop(uid, None)
        else:
            self.objects[uid] = event["object"]
        self._changed()
