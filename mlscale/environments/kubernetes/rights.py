"""What the user may do, checked by SelfSubjectAccessReviews, which leave nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mlscale.environments.base import Problem
from mlscale.environments.kubernetes.client import Api, Refused
from mlscale.environments.kubernetes.paths import ACCESS_REVIEWS, group_and_plural

_CLUSTER_WIDE: Final = (("create", "Namespace"), ("delete", "Namespace"), ("get", "Namespace"))
_IN_NAMESPACE: Final = (
    ("patch", "ConfigMap"),
    ("patch", "Deployment"),
    ("patch", "Service"),
    ("patch", "HorizontalPodAutoscaler"),
    ("list", "Pod"),
    ("watch", "Pod"),
    ("watch", "Event"),
    ("watch", "Deployment"),
    ("watch", "HorizontalPodAutoscaler"),
)
_REMEDY: Final = "ask an administrator for it; mlscale creates a namespace for each run"


def missing_rights(api: Api) -> list[Problem]:
    """A problem for each right that a run needs and the user lacks, or one if the server does not tell."""
    wanted = [(verb, kind, "", "") for verb, kind in _CLUSTER_WIDE]
    wanted += [(verb, kind, "", "mlscale-0") for verb, kind in _IN_NAMESPACE]
    wanted.append(("get", "Pod", "log", "mlscale-0"))
    try:
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(pool.map(lambda each: _allowed(api, *each), wanted))
    except Refused as refused:
        error = refused.as_error(str(api.place))
        return [Problem(error.what, error.where, error.remedy)]
    return [
        Problem(f"may not {verb} {_named(kind, part)}", str(api.place), _REMEDY)
        for (verb, kind, part, _), allowed in zip(wanted, answers, strict=True)
        if not allowed
    ]


def _allowed(api: Api, verb: str, kind: str, part: str, namespace: str) -> bool:
    group, plural = group_and_plural(kind)
    attributes = {"verb": verb, "group": group, "resource": plural, "subresource": part, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = api.post(ACCESS_REVIEWS, review)
    return bool((answer.get("status") or {}).get("allowed"))


def _named(kind: str, part: str) -> str:
    group, plural = group_and_plural(kind)
    words: Sequence[str] = (plural + (f".{group}" if group else ""), part)
    return "/".join(word for word in words if word)
