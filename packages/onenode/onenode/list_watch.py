"""Follows one list of objects at the API server: list, then watch; after any failure, list again. Never gives up.

Not `mlscale.environments.kubernetes.list_watch`: that one needs the official client, which would double the memory of
the processes here, and their CPU and memory are measured as the control plane's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

logger = logging.getLogger(__name__)

_PAUSE_S: Final = 0.5
_WATCH_S: Final = 240


class ListWatch:
    """``objects`` by uid, as they are now; ``listed`` once the first list has come.

    Args:
        server: URL of the API server; ``context`` holds the client certificate.
        path: of the list, such as "/api/v1/pods".
        query: such as a label selector.
    """

    def __init__(self, server: str, context: ssl.SSLContext, path: str, query: Mapping[str, str] | None = None) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.listed = False
        self._url, self._context, self._query = f"{server}{path}", context, dict(query or {})

    async def run(self) -> None:
        """Follow until cancelled."""
        async with ClientSession(connector=TCPConnector(ssl=self._context)) as session:
            while True:
                try:
                    version = await self._list(session)
                    async for event in self._watch(session, version):
                        self._apply(event)
                except (ClientError, TimeoutError, ValueError, KeyError) as error:
                    logger.warning("%s can't be followed: %s", self._url, error)
                await asyncio.sleep(_PAUSE_S)

    async def _list(self, session: ClientSession) -> str:
        async with session.get(self._url, params=self._query) as response:
            response.raise_for_status()
            listing = await response.json()
        self.objects = {item["metadata"]["uid"]: item for item in listing["items"]}
        self.listed = True
        version: str = listing["metadata"]["resourceVersion"]
        return version

    async def _watch(self, session: ClientSession, version: str) -> AsyncIterator[dict[str, Any]]:
        query = {**self._query, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(_WATCH_S)}
        timeout = ClientTimeout(total=_WATCH_S + 30)
        async with session.get(self._url, params=query, timeout=timeout) as response:
            response.raise_for_status()
            async for line in response.content:
                yield json.loads(line)

    def _apply(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "ERROR":
            raise ValueError(event["object"].get("message", "the watch ended"))
        uid = event["object"]["metadata"]["uid"]
        if event["type"] == "DELETED":
            self.objects.pop(uid, None)
        else:
            self.objects[uid] = event["object"]
