"""Calls to other components over HTTP, made by the server's event loop for the model's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, TCPConnector

from mlscale.serving.exchange import CALL_TIMEOUT_S, Answered, Call


class Caller:
    """Makes calls. Create it in the event loop that is to run them.

    Each call opens its own connection: kube-proxy balances connections, so a kept one would always reach the same
    replica.

    Args:
        urls: component -> URL that bodies are POSTed to.
        timeout_s: from sending a call to the end of its answer, s.
    """

    def __init__(self, urls: Mapping[str, str], timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._urls, self._timeout_s = urls, timeout_s
        self._loop = asyncio.get_running_loop()
        self._session = ClientSession(
            connector=TCPConnector(force_close=True, limit=0),
            timeout=ClientTimeout(total=None, sock_connect=None),
        )

    def begin(self, call: Call) -> Future[Answered]:
        """Start a call, from any thread; cancel the future to drop it.

        The future's errors: TimeoutError if the answer is late, OSError if there is none.
        """
        return asyncio.run_coroutine_threadsafe(self._execute(call), self._loop)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _execute(self, call: Call) -> Answered:
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
