"""The few requests that the cluster's own programs make.

Uses the standard library: while the cluster starts, neither the API server nor a kubeconfig exists yet, and the
official client takes seconds and 50 MB to import.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from mlscale.environments.kubernetes.paths import path_of_object
from mlscale.runs import MlscaleError

_TIMEOUT_S: Final = 10.0
_FIELD_MANAGER: Final = "mlscale-cluster"


class Api:
    """The API server at the URL ``server``; ``context`` holds the client certificate."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        self._server = server
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at ``path``; None if it does not exist. Raises MlscaleError if the server does not answer."""
        return self._request("GET", path, None, "", missing_ok=True)

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Server-side apply. Raises MlscaleError if it is refused."""
        path = f"{path_of_object(manifest)}?fieldManager={_FIELD_MANAGER}&force=true"
        self._request("PATCH", path, json.dumps(manifest).encode(), "application/apply-patch+yaml")

    def merge(self, path: str, change: Mapping[str, Any]) -> None:
        """JSON merge patch of the object at ``path``; nothing if it does not exist. Raises MlscaleError."""
        self._request("PATCH", path, json.dumps(change).encode(), "application/merge-patch+json", missing_ok=True)

    def delete(self, path: str) -> None:
        """Delete the object at ``path``; nothing if it does not exist. Raises MlscaleError."""
        self._request("DELETE", path, None, "", missing_ok=True)

    def _request(
        self, method: str, path: str, body: bytes | None, kind: str, *, missing_ok: bool = False
    ) -> dict[str, Any] | None:
        headers = {"Accept": "application/json", **({"Content-Type": kind} if kind else {})}
        request = urllib.request.Request(f"{self._server}{path}", body, headers, method=method)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            if error.code == 404 and missing_ok:
                return None
            answer = error.read(500).decode(errors="replace")
            raise MlscaleError(
                f"HTTP {error.code}: {answer}", f"{method} {path}", "see the API server's log"
            ) from error
        except OSError as error:
            raise MlscaleError(f"no answer: {error}", f"{method} {path}", "mlscale cluster status") from error
