"""Calls to other components over HTTP, as the server's event loop carries them out for the model's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, TCPConnector

from mlscale.serving.exchange import CALL_TIMEOUT_S, Answered, Call


class Caller:
    """Made in the event loop that then carries the calls out.

    Each call has a connection of its own: whatever lies in between (kube-proxy) chooses one of the component's replicas
    for a connection, and a kept one would stay with the first.

    Args:
        urls: component -> where its bodies are POSTed to.
        timeout_s: from a call's sending to the end of its answer, s.
    """

    def __init__(self, urls: Mapping[str, str], timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._urls, self._timeout_s = urls, timeout_s
        self._loop = asyncio.get_running_loop()
        self._session = ClientSession(
            connector=TCPConnector(force_close=True, limit=0),
            timeout=ClientTimeout(total=None, sock_connect=None),
        )

    def begin(self, call: Call) -> Future[Answered]:
        """From any thread: the answer to come; cancel it to drop the call.

        Its errors: TimeoutError where the answer came too late, OSError where there was none.
        """
        return asyncio.run_coroutine_threadsafe(self._carried_out(call), self._loop)

    async def close(self) -> None:
        """Give the connections back."""
        await self._session.close()

    async def _carried_out(self, call: Call) -> Answered:
        url = self._urls.get(call.component)
        if url is None:
            raise ConnectionError("it is not among the calls")
        headers = {"Content-Type": "application/octet-stream"}
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._session.post(url, data=call.body, headers=headers) as response:
                    return response.status, await response.read(), response.headers
        except ClientConnectorError as error:
            raise error.os_error from None
        except ClientError as error:
            raise ConnectionError(f"no HTTP answer: {type(error).__name__}") from error
