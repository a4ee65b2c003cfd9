"""The few requests that a cluster's own programs make, over the standard library."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from mlscale.runs import MlscaleError

_AT_MOST_S: Final = 10.0
_MANAGER: Final = "mlscale-cluster"
PLACES: Final[Mapping[str, str]] = {
    "v1/ConfigMap": "api/v1/namespaces/{namespace}/configmaps",
    "v1/Service": "api/v1/namespaces/{namespace}/services",
    "discovery.k8s.io/v1/EndpointSlice": "apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "rbac.authorization.k8s.io/v1/RoleBinding": (
        "apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
    ),
    "rbac.authorization.k8s.io/v1/ClusterRole": "apis/rbac.authorization.k8s.io/v1/clusterroles",
    "rbac.authorization.k8s.io/v1/ClusterRoleBinding": "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "apiregistration.k8s.io/v1/APIService": "apis/apiregistration.k8s.io/v1/apiservices",
    "apiextensions.k8s.io/v1/CustomResourceDefinition": "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "scheduling.k8s.io/v1/PriorityClass": "apis/scheduling.k8s.io/v1/priorityclasses",
    "karpenter.kwok.sh/v1alpha1/KWOKNodeClass": "apis/karpenter.kwok.sh/v1alpha1/kwoknodeclasses",
}


class Api:
    """The API server at ``server`` (a URL), asked as the administrator."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        self._server = server
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at ``path``; None where there is none. Raises MlscaleError when it can't be asked."""
        return self._request("GET", path, None, "", missing_is_fine=True)

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Make the object what ``manifest`` says. Raises MlscaleError when it is refused."""
        path = f"{path_of(manifest)}?fieldManager={_MANAGER}&force=true"
        self._request("PATCH", path, json.dumps(manifest).encode(), "application/apply-patch+yaml")

    def merge(self, path: str, change: Mapping[str, Any]) -> None:
        """JSON merge patch of the object at ``path``; nothing where there is none. Raises MlscaleError."""
        self._request("PATCH", path, json.dumps(change).encode(), "application/merge-patch+json", missing_is_fine=True)

    def delete(self, path: str) -> None:
        """Delete the object at ``path``; nothing where there is none. Raises MlscaleError."""
        self._request("DELETE", path, None, "", missing_is_fine=True)

    def _request(
        self, method: str, path: str, body: bytes | None, kind: str, *, missing_is_fine: bool = False
    ) -> dict[str, Any] | None:
        headers = {"Accept": "application/json", **({"Content-Type": kind} if kind else {})}
        request = urllib.request.Request(f"{self._server}/{path}", body, headers, method=method)
        try:
            with self._opener.open(request, timeout=_AT_MOST_S) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            if error.code == 404 and missing_is_fine:
                return None
            said = error.read(500).decode(errors="replace")
            raise MlscaleError(f"HTTP {error.code}: {said}", f"{method} {path}", "see the API server's log") from error
        except OSError as error:
            raise MlscaleError(f"no answer: {error}", f"{method} {path}", "mlscale cluster status") from error


def path_of(manifest: Mapping[str, Any]) -> str:
    """Where the object that ``manifest`` describes is. Raises KeyError for a kind that is none of `PLACES`."""
    metadata = manifest["metadata"]
    folder = PLACES[f"{manifest['apiVersion']}/{manifest['kind']}"]
    return f"{folder.format(namespace=metadata.get('namespace', 'default'))}/{metadata['name']}"
