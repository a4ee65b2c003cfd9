"""A thin, typed layer over the official ``kubernetes`` client: JSON in, JSON out, errors that name verb and path.

It uses the client's configuration, authentication, TLS and connection pool, but not its generated model classes, since
metrics.k8s.io, external.metrics.k8s.io, Karpenter and the kubelet's configz have none; nor its ``DynamicClient``, which
needs the right to discovery and a round trip for each API group; nor its ``Watch``, which hides bookmarks and lists.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from mlscale.runs import MlscaleError
from mlscale.runs.clock import Skew

FIELD_MANAGER: Final = "mlscale"
# Where K3s writes it.
_K3S_KUBECONFIG: Final = Path("/etc/rancher/k3s/k3s.yaml")
_TIMEOUT_S: Final = 10.0
_CONNECT_S: Final = 3.0
_VERBS: Final = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}

Json = Mapping[str, Any]
Query = Mapping[str, str | int]
_NO_QUERY: Final[Query] = {}


class Refused(Exception):  # noqa: N818 (an answer, not always an error)
    """The API server refused a request: HTTP ``status``, ``reason`` (such as NotFound), ``message``, verb and path."""

    def __init__(self, status: int, reason: str, message: str, verb: str, path: str) -> None:
        super().__init__(f"{verb} {path}: {status} {reason}: {message}")
        self.status, self.reason, self.message, self.verb, self.path = status, reason, message, verb, path

    def as_error(self, where: str) -> MlscaleError:
        """The error to show to a user. A forbidden verb is named as the API server names it."""
        if self.status == 401:
            return MlscaleError("the credentials are not accepted", where, "log in again, or fix the kubeconfig")
        if self.status == 403:
            remedy = "ask for that right (a namespace admin has it, except for creating namespaces)"
            if "exceeded quota" in self.message:
                remedy = "ask for a larger quota, or lower max_replicas or cpu_cores"
            return MlscaleError(f"may not {self.verb}: {self.message}", where, remedy)
        return MlscaleError(f"{self.verb} {self.path}: {self.message or self.reason}", where, "see the message")


class Unreachable(MlscaleError):  # noqa: N818 (the state of the server)
    """The API server does not answer."""


@dataclass(frozen=True)
class KubeContext:
    """A cluster: kubeconfig files (joined as in $KUBECONFIG) and a context in them (None: the current one; that of an
    `Api` is always set)."""

    kubeconfig: str
    context: str | None = None

    def __str__(self) -> str:
        return f"kubeconfig {self.kubeconfig}" + (f", context {self.context}" if self.context else "")


class Stream:
    """The events of a watch. Iterate in one thread; `close` may be called from any."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._closed = False

    def __iter__(self) -> Iterator[Json]:
        """Raises OSError when the connection breaks."""
        from urllib3.exceptions import HTTPError

        try:
            for line in self._response:
                if line.strip():
                    yield json.loads(line)
        except (HTTPError, OSError, ValueError) as error:
            if not self._closed:
                raise OSError(f"the watch broke: {error}") from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End the iteration, even while it waits for data."""
        self._closed = True
        with suppress(OSError, RuntimeError, ValueError):  # already ended
            self._response.shutdown()  # close() would block on the reading thread


class Api:
    """One cluster's API server. Thread-safe."""

    def __init__(self, client: Any, kube_context: KubeContext) -> None:
        """Use `connect`; ``client`` is a ``kubernetes.client.ApiClient``."""
        self._client = client
        self.kube_context = kube_context
        self.server: str = client.configuration.host

    def get(self, path: str, query: Query = _NO_QUERY, *, timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
        """One object or list. Raises Refused, Unreachable."""
        return self._json("GET", path, query, timeout_s=timeout_s)

    def find(self, path: str) -> dict[str, Any] | None:
        """As `get`, but None if it does not exist."""
        try:
            return self.get(path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def text(self, path: str, query: Query = _NO_QUERY) -> str:
        """Text, such as a log. Raises Refused, Unreachable."""
        return self._read(self._open("GET", path, query, accept="*/*")).decode(errors="replace")

    def skew(self, looks: int = 5) -> Skew:
        """How far the cluster's clock is ahead of this machine's, by the Date header. Raises Refused, Unreachable."""
        skew = Skew()
        for _ in range(looks):
            sent_at = time.time()
            response = self._open("GET", "/version")
            date, received_at = response.headers.get("Date"), time.time()
            response.drain_conn()
            response.release_conn()
            if date:
                skew = skew.narrowed(parsedate_to_datetime(date), sent_at, received_at)
        return skew

    def post(self, path: str, body: Json) -> dict[str, Any]:
        """Create. Raises Refused, Unreachable."""
        return self._json("POST", path, body=body)

    def apply(self, path: str, manifest: Json) -> dict[str, Any]:
        """Server-side apply under one field manager. Raises Refused, Unreachable."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._json("PATCH", path, query, body=manifest, content="application/apply-patch+yaml")

    def merge(self, path: str, change: Json) -> dict[str, Any]:
        """JSON merge patch. Raises Refused, Unreachable."""
        return self._json("PATCH", path, body=change, content="application/merge-patch+json")

    def delete(self, path: str, **options: Any) -> dict[str, Any] | None:
        """Delete; None if it did not exist. ``options`` of DeleteOptions. Raises Refused, Unreachable."""
        try:
            return self._json("DELETE", path, body={"kind": "DeleteOptions", "apiVersion": "v1", **options})
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def watch(self, path: str, version: str, query: Query = _NO_QUERY, *, at_most_s: int = 300) -> Stream:
        """Events of a list since ``version``, with bookmarks. Raises Refused, Unreachable."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": at_most_s,
            **query,
        }
        return Stream(self._open("GET", path, query, timeout_s=at_most_s + _TIMEOUT_S))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _json(self, method: str, path: str, query: Query = _NO_QUERY, **options: Any) -> dict[str, Any]:
        """``options``: of `_open`."""
        data = self._read(self._open(method, path, query, **options))
        try:
            content: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise Unreachable(
                "not a Kubernetes API server: its answer is not JSON",
                self.server + path,
                "set KUBECONFIG to a cluster's, or fix its server",
            ) from error
        return content

    def _read(self, response: Any) -> bytes:
        try:
            with self._unreachable():
                data: bytes = response.data
        finally:
            response.release_conn()
        return data

    def _open(
        self,
        method: str,
        path: str,
        query: Query = _NO_QUERY,
        *,
        body: Json | None = None,
        timeout_s: float = _TIMEOUT_S,
        accept: str = "application/json",
        content: str = "application/json",
    ) -> Any:
        """The response, unread. ``content``: media type of ``body``."""
        headers = {"Accept": accept, **({"Content-Type": content} if body is not None else {})}
        with self._unreachable():
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
    def _unreachable(self) -> Iterator[None]:
        """Raise Unreachable if no answer comes, or only part of one because the server dies."""
        from kubernetes.client.exceptions import ApiException  # raised for a failed TLS handshake
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
    """$KUBECONFIG, else that of our own cluster, else ~/.kube/config, else K3s's own; None if none can be read."""
    named = os.environ.get("KUBECONFIG", "")
    if named:
        return named
    files = (own, Path.home() / ".kube" / "config", _K3S_KUBECONFIG)
    return next((str(file) for file in files if file.is_file() and os.access(file, os.R_OK)), None)


def connect(kube_context: KubeContext) -> Api:
    """A client for the cluster that ``kube_context`` names; no request is sent yet.

    Raises:
        MlscaleError: no such file or context, or it is unusable.
    """
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException
    from yaml import YAMLError

    files = [Path(name) for name in kube_context.kubeconfig.split(os.pathsep) if name]
    if not any(file.is_file() for file in files):
        raise no_kubeconfig(kube_context.kubeconfig)
    configuration = client.Configuration()
    # The client writes a kubeconfig's certificates to files, which a kill -9 would leave, the private key among them.
    with TemporaryDirectory() as folder:
        try:
            context = kube_context.context or str(config.list_kube_config_contexts(kube_context.kubeconfig)[1]["name"])
            config.load_kube_config(
                kube_context.kubeconfig,
                context,
                client_configuration=configuration,
                persist_config=False,
                temp_file_path=folder,
            )
            tls = _tls_context(configuration)
        except (ConfigException, YAMLError, OSError, ValueError, TypeError, AttributeError) as error:
            raise MlscaleError(
                f"it is unusable: {_reason(error)}", str(kube_context), "fix it, or set KUBECONFIG to another"
            ) from error
    configuration.retries = False
    configuration.connection_pool_maxsize = 16
    api_client = client.ApiClient(configuration)
    options = api_client.rest_client.pool_manager.connection_pool_kw
    options.update(ssl_context=tls, ca_certs=None, cert_file=None, key_file=None)
    return Api(api_client, KubeContext(kube_context.kubeconfig, context))


def _tls_context(configuration: Any) -> ssl.SSLContext:
    """The TLS context, which the client would otherwise build from its files for every connection."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def no_kubeconfig(where: str) -> MlscaleError:
    """The error for a missing kubeconfig."""
    return MlscaleError("no kubeconfig", where, "set KUBECONFIG, or start our own cluster (Linux, root): make cluster")


def _refusal(response: Any, method: str, path: str) -> Refused:
    text = response.data.decode(errors="replace")
    response.release_conn()
    try:
        status = json.loads(text)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = str(response.reason or ""), text.strip()[:300]
    return Refused(response.status, reason, message, _VERBS.get(method, "get"), path)


def _reason(error: BaseException) -> str:
    """The innermost reason of nested errors, one line."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _reason(inner)
    text = str(error).rpartition(": ")[2] if "object at 0x" in str(error) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:300]
