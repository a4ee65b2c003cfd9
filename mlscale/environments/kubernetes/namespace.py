"""The namespace of a run: recorded in the ledger before it exists, filled, and deleted as a whole, by any process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.manifests import OWNER, Deployment, addresses, namespace, objects, owner, services
from mlscale.environments.kubernetes.names import MANAGED_BY, TOOL
from mlscale.environments.kubernetes.paths import path_of, path_of_object
from mlscale.environments.kubernetes.reap import reap_named
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.reap import despite_interrupt
from mlscale.runs import MlscaleError

# Kind of the ledger entry.
KIND: Final = "kubernetes_namespace"
_GONE_S: Final = 90.0
_LOOK_S: Final = 0.2
# Some versions answer this when a namespace is deleted that is already being deleted.
_CONFLICT: Final = 409
_FORBIDDEN: Final = 403


def new_name() -> str:
    """A new, unique name for a namespace."""
    return f"mlscale-{uuid.uuid4().hex[:8]}"


@contextmanager
def created(api: Api, wanted: Deployment, ledger: Ledger) -> Iterator[None]:
    """The namespace with all its objects. On leaving, it is deleted.

    Raises:
        MlscaleError: the API server refuses something (a forbidden verb is named), or the namespace can't be deleted
            (its ledger entry then stays, for ``mlscale cleanup``).
    """
    kube_context = api.kube_context
    entry = ledger.intend(
        KIND,
        kubeconfig=kube_context.kubeconfig,
        context=kube_context.context,
        server=api.server,
        namespace=wanted.namespace,
    )
    answered = False
    try:
        api.apply(path_of("Namespace", wanted.namespace), namespace(wanted))
        answered = True
        _create_objects(api, wanted)
        yield
    except Refused as refused:
        answered = True
        raise refused.as_error(f"namespace {wanted.namespace}") from refused
    except (KeyboardInterrupt, SystemExit) as interrupted:
        answered = _request_deletion(api, wanted.namespace, interrupted) or answered
        raise
    finally:

        def end() -> None:
            if remove(api, wanted.namespace) or answered:
                ledger.done(entry)  # else interrupted before the API server answered: it may still be created

        despite_interrupt(end)


def remove(api: Api, name: str) -> bool:
    """Delete the namespace ``name`` and wait until it and all its pods are gone. Idempotent.

    Interrupting this (a second Ctrl-C or SIGTERM) ends only the wait: the deletion is requested first.

    Returns:
        Whether it existed.
    Raises:
        MlscaleError: it is not one of ours, can't be deleted, or is still there after 90 s.
    """
    where = f"namespace {name}"
    try:
        return _delete_and_wait(api, name, where)
    except Refused as refused:
        raise refused.as_error(where) from refused
    except (KeyboardInterrupt, SystemExit) as interrupted:
        _request_deletion(api, name, interrupted)
        raise


def _request_deletion(api: Api, name: str, interrupted: BaseException) -> bool:
    """Request the deletion without waiting, since SIGKILL may follow; the cluster then completes it by itself.

    Returns whether there was a namespace to delete; a failure is added to ``interrupted`` as a note.
    """
    where = f"namespace {name}"
    try:
        exists = _is_ours(api, name, where)
        if exists:
            _delete(api, name)
    except (Refused, MlscaleError) as error:
        interrupted.add_note(f"{where}: its deletion could not be requested ({error}); run mlscale cleanup")
        return False
    return exists


def _delete(api: Api, name: str) -> None:
    try:
        api.delete(path_of("Namespace", name), propagationPolicy="Background")
    except Refused as refused:
        if refused.status != _CONFLICT:
            raise


def _delete_and_wait(api: Api, name: str, where: str) -> bool:
    if not _is_ours(api, name, where):
        return False
    deadline = time.monotonic() + _GONE_S
    _end_pods(api, name, deadline)
    _delete(api, name)
    while (remaining := api.find(path_of("Namespace", name))) is not None:
        if time.monotonic() > deadline:
            raise MlscaleError(f"still there after {_GONE_S:g} s: {_blocking(remaining)}", where, "mlscale cleanup")
        time.sleep(_LOOK_S)
    return True


def _is_ours(api: Api, name: str, where: str) -> bool:
    """Whether it exists. Raises MlscaleError if it exists and was not created by mlscale."""
    existing = api.find(path_of("Namespace", name))
    if existing is not None and (existing["metadata"].get("labels") or {}).get(MANAGED_BY) != TOOL:
        raise MlscaleError("not created by mlscale, so it is left alone", where, "remove the ledger entry")
    return existing is not None


def _end_pods(api: Api, name: str, deadline: float) -> None:
    """Delete the owner, and with it everything that creates pods, and wait until the pods are gone: the namespace
    controller retries a namespace that still has pods only half a grace period later."""
    try:
        api.delete(path_of("ConfigMap", OWNER, name), propagationPolicy="Background")
        while api.get(path_of("Pod", namespace=name), {"limit": 1})["items"]:
            if time.monotonic() > deadline:
                return  # the namespace's conditions say what blocks it
            time.sleep(_LOOK_S)
    except Refused as refused:
        if refused.status != _FORBIDDEN:
            raise  # else it only takes longer


def reap(entry: LedgerEntry, own: Path) -> None:
    """Remove the namespace that a ledger entry names. Idempotent. See `reap_named` for ``own`` and what it raises."""
    reap_named(entry, own, "namespace", str(entry.identity["namespace"]), remove)


def _create_objects(api: Api, wanted: Deployment) -> None:
    config_map = owner(wanted)
    uid = api.apply(path_of_object(config_map), config_map)["metadata"]["uid"]
    applied = [api.apply(path_of_object(each), each) for each in services(wanted, uid)]
    for each in objects(wanted, uid, addresses(applied)):
        api.apply(path_of_object(each), each)


def _blocking(remaining: Json) -> str:
    conditions = (remaining.get("status") or {}).get("conditions") or ()
    messages = [str(each.get("message", "")) for each in conditions if each.get("status") == "True"]
    return "; ".join(filter(None, messages)) or "its pods have not ended"
