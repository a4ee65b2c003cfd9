"""A typed, thin face on the official ``kubernetes`` client: JSON in, JSON out, errors with the verb and what it met.

The client's configuration, authentication, TLS and connection pool are used; its 700 generated model classes are not:
watches, metrics.k8s.io, external.metrics.k8s.io and the kubelet's configz have none, and JSON needs only one way.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

from mlscale.runs import MlscaleError
from mlscale.runs.clock import Skew

FIELD_MANAGER: Final = "mlscale"
_TIMEOUT_S: Final = 10.0
_CONNECT_S: Final = 3.0
_VERBS: Final = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}

Json = Mapping[str, Any]
Query = Mapping[str, str | int]
_NO_QUERY: Final[Query] = {}


class Refused(Exception):  # noqa: N818 (an answer of the API server)
    """The API server's refusal: ``status`` (HTTP), ``reason`` (its word, such as NotFound), ``message``, and what was
    asked (``verb``, ``path``)."""

    def __init__(self, status: int, reason: str, message: str, verb: str, path: str) -> None:
        super().__init__(f"{verb} {path}: {status} {reason}: {message}")
        self.status, self.reason, self.message, self.verb, self.path = status, reason, message, verb, path

    def as_error(self, where: str) -> MlscaleError:
        """For a user. A forbidden verb is named as the API server names it."""
        if self.status == 401:
            return MlscaleError("the credentials are not accepted", where, "log in again, or fix the kubeconfig")
        if self.status == 403:
            remedy = "ask for that right: a namespaced admin may do it, except creating namespaces"
            if "exceeded quota" in self.message:
                remedy = "ask for a larger quota, or lower max_replicas or cpu_cores"
            return MlscaleError(f"may not {self.verb}: {self.message}", where, remedy)
        return MlscaleError(f"{self.verb} {self.path}: {self.message or self.reason}", where, "see the message")


class Unreachable(MlscaleError):  # noqa: N818 (what it says of the server)
    """No answer from the API server."""


@dataclass(frozen=True)
class Place:
    """Which cluster: the kubeconfig's files (joined as in $KUBECONFIG) and its context (None: the current one;
    an `Api` always names its own)."""

    kubeconfig: str
    context: str | None = None

    def __str__(self) -> str:
        return f"kubeconfig {self.kubeconfig}" + (f", context {self.context}" if self.context else "")


class Stream:
    """The lines of a watch or of a log. Iterate in one thread; `close`, from any, ends the iteration."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._closed = False

    def __iter__(self) -> Iterator[Json]:
        """Raises OSError when the connection breaks."""
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for chunk in self._response.stream(amt=None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        except (HTTPError, OSError, ValueError) as error:
            if not self._closed:
                raise OSError(f"the watch broke: {error}") from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End it, also while another thread waits in it."""
        self._closed = True
        found = getattr(getattr(self._response, "connection", None), "sock", None)
        if found is not None:
            try:
                found.shutdown(socket.SHUT_RDWR)  # a close() would wait for the reader
            except OSError:
                return  # it has ended already


class Api:
    """One cluster's API server. Thread-safe."""

    def __init__(self, client: Any, place: Place) -> None:
        """Use `connect`; ``client`` is a ``kubernetes.client.ApiClient``."""
        self._client = client
        self.place = place
        self.server: str = client.configuration.host

    def get(self, path: str, query: Query = _NO_QUERY, *, timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
        """One object or list. Raises Refused, Unreachable."""
        return self._json("GET", path, query, timeout_s=timeout_s)

    def find(self, path: str) -> dict[str, Any] | None:
        """As `get`; None where there is none."""
        try:
            return self.get(path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def text(self, path: str, query: Query = _NO_QUERY) -> str:
        """Text, such as a log. Raises Refused, Unreachable."""
        return self._call("GET", path, query, None, _TIMEOUT_S, accept="*/*").decode(errors="replace")

    def skew(self, looks: int = 5) -> Skew:
        """How far the cluster's clock is ahead of this machine's, by its answers' Date. Raises Refused, Unreachable."""
        found = Skew()
        for _ in range(looks):
            sent_at = time.time()
            response = self._open("GET", "/version", _NO_QUERY, None, _TIMEOUT_S, "application/json", "")
            date, received_at = response.headers.get("Date"), time.time()
            response.drain_conn()
            response.release_conn()
            if date:
                found = found.narrowed(parsedate_to_datetime(date), sent_at, received_at)
        return found

    def post(self, path: str, body: Json) -> dict[str, Any]:
        """Create. Raises Refused, Unreachable."""
        return self._json("POST", path, _NO_QUERY, body)

    def apply(self, path: str, manifest: Json) -> dict[str, Any]:
        """Server-side apply under one field manager. Raises Refused, Unreachable."""
        asked = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._json("PATCH", path, asked, manifest, content="application/apply-patch+yaml")

    def merge(self, path: str, change: Json) -> dict[str, Any]:
        """JSON merge patch. Raises Refused, Unreachable."""
        return self._json("PATCH", path, _NO_QUERY, change, content="application/merge-patch+json")

    def delete(self, path: str, **options: Any) -> dict[str, Any] | None:
        """Delete; None where it is gone already. ``options`` of DeleteOptions. Raises Refused, Unreachable."""
        try:
            return self._json("DELETE", path, _NO_QUERY, {"kind": "DeleteOptions", "apiVersion": "v1", **options})
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def watch(self, path: str, version: str, query: Query = _NO_QUERY, *, at_most_s: int = 300) -> Stream:
        """Changes of a list since ``version``, with bookmarks. Raises Refused, Unreachable."""
        asked: Query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": at_most_s,
            **query,
        }
        return Stream(self._open("GET", path, asked, None, at_most_s + _TIMEOUT_S, "application/json", ""))

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def _json(
        self,
        method: str,
        path: str,
        query: Query,
        body: Json | None = None,
        timeout_s: float = _TIMEOUT_S,
        content: str = "application/json",
    ) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._call(method, path, query, body, timeout_s, content=content) or b"{}")
        return found

    def _call(
        self,
        method: str,
        path: str,
        query: Query,
        body: Json | None,
        timeout_s: float,
        *,
        accept: str = "application/json",
        content: str = "application/json",
    ) -> bytes:
        response = self._open(method, path, query, body, timeout_s, accept, content)
        try:
            with self._answered():
                data: bytes = response.data
        finally:
            response.release_conn()
        return data

    def _open(
        self,
        method: str,
        path: str,
        query: Query,
        body: Json | None,
        timeout_s: float,
        accept: str,
        content: str,
    ) -> Any:
        headers = {"Accept": accept, **({"Content-Type": content} if body is not None else {})}
        with self._answered():
            request = self._client.param_serialize(
                method=method,
                resource_path=path,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(*request, _request_timeout=(_CONNECT_S, timeout_s)).response
            if not 200 <= response.status <= 299:
                raise _refusal(response, method, path)
        return response

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Raises Unreachable where no answer comes, or breaks off: a server that dies may have sent a half of it."""
        from kubernetes.client.exceptions import ApiException  # what the client makes of a failed TLS handshake
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (HTTPError, OSError, ApiException) as error:
            raise Unreachable(
                f"the API server does not answer: {_reason(error)}",
                self.server,
                "start the cluster (make cluster, for our own), or fix the kubeconfig",
            ) from error


def default_kubeconfig(own: Path) -> str | None:
    """Where the kubeconfig is: $KUBECONFIG, else that of our own cluster, else ~/.kube/config; None: nowhere."""
    named = os.environ.get("KUBECONFIG", "")
    if named:
        return named
    home = Path.home() / ".kube" / "config"
    return next((str(file) for file in (own, home) if file.is_file()), None)


def connect(place: Place) -> Api:
    """The cluster that ``place`` names; nothing is asked of it yet.

    Raises:
        MlscaleError: no such file or context, or it can't be used.
    """
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException
    from yaml import YAMLError

    files = [Path(name) for name in place.kubeconfig.split(os.pathsep) if name]
    if not any(file.is_file() for file in files):
        raise no_kubeconfig(place.kubeconfig)
    made = client.Configuration()
    try:
        context = place.context or str(config.list_kube_config_contexts(place.kubeconfig)[1]["name"])
        config.load_kube_config(place.kubeconfig, context, client_configuration=made, persist_config=False)
    except (ConfigException, YAMLError, OSError, ValueError, TypeError, AttributeError) as error:
        raise MlscaleError(f"it can't be used: {_reason(error)}", str(place), "fix it, or name another") from error
    made.retries = False
    made.connection_pool_maxsize = 16
    return Api(client.ApiClient(made), Place(place.kubeconfig, context))


def no_kubeconfig(where: str) -> MlscaleError:
    """There is none."""
    return MlscaleError(
        "no kubeconfig", where, "set KUBECONFIG to one, or bring our own cluster up (Linux, root): make cluster"
    )


def _refusal(response: Any, method: str, path: str) -> Refused:
    text = response.data.decode(errors="replace")
    response.release_conn()
    try:
        said = json.loads(text)
        reason, message = str(said.get("reason", "")), str(said.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = str(response.reason or ""), text.strip()[:300]
    return Refused(response.status, reason, message, _VERBS.get(method, "get"), path)


def _reason(error: BaseException) -> str:
    """The innermost reason, without the layers around it; one line."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _reason(inner)
    text = str(error).rpartition(": ")[2] if "object at 0x" in str(error) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:300]
