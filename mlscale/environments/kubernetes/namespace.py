"""The namespace of a run: written down before it exists, filled, and taken away as a whole, also by another process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.manifests import OWNER, Deployment, addresses, namespace, objects, owner, services
from mlscale.environments.kubernetes.paths import path_of, path_of_object
from mlscale.environments.kubernetes.reap import reap_named
from mlscale.environments.kubernetes_names import MANAGED_BY, TOOL
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.runs import MlscaleError

# Of the ledger entry.
KIND: Final = "kubernetes_namespace"
_GONE_S: Final = 90.0
_LOOK_S: Final = 0.2
# What some versions answer to a second deletion of a namespace that is on its way out.
_CONFLICT: Final = 409


def new_name() -> str:
    """A namespace's name that nobody has."""
    return f"mlscale-{uuid.uuid4().hex[:8]}"


@contextmanager
def made(api: Api, wanted: Deployment, ledger: Ledger) -> Iterator[list[Json]]:
    """The namespace with everything in it, as the API server holds it; gone on leaving.

    Raises:
        MlscaleError: the API server refuses something (a forbidden verb is named), or what was made can't be removed
            (its ledger entry then stays, for ``mlscale cleanup``).
    """
    place = api.place
    entry = ledger.intend(
        KIND, kubeconfig=place.kubeconfig, context=place.context, server=api.server, namespace=wanted.namespace
    )
    answered = False
    try:
        api.apply(path_of("Namespace", wanted.namespace), namespace(wanted))
        answered = True
        yield _filled(api, wanted)
    except Refused as refused:
        answered = True
        raise refused.as_error(f"namespace {wanted.namespace}") from refused
    except (KeyboardInterrupt, SystemExit) as interrupted:
        answered = _asked(api, wanted.namespace, interrupted) or answered
        raise
    finally:
        if remove(api, wanted.namespace) or answered:
            ledger.done(entry)  # else it was broken off before the API server's answer, and may come to be yet


def remove(api: Api, name: str) -> bool:
    """Delete the namespace ``name`` and wait until it, and with it all its pods, is gone. Idempotent.

    Whoever interrupts this (Ctrl-C again, a second SIGTERM) ends the wait alone: the deletion is asked for before.

    Returns:
        Whether there was one.
    Raises:
        MlscaleError: it is not one of ours, can't be deleted, or is still there after 90 s.
    """
    where = f"namespace {name}"
    try:
        return _removed(api, name, where)
    except Refused as refused:
        raise refused.as_error(where) from refused
    except (KeyboardInterrupt, SystemExit) as interrupted:
        _asked(api, name, interrupted)
        raise


def _asked(api: Api, name: str, interrupted: BaseException) -> bool:
    """Ask for the deletion at once, since who interrupts may soon kill: from here on the cluster goes on by itself.
    Whether there was something to delete; what hinders it becomes a note of ``interrupted``."""
    where = f"namespace {name}"
    try:
        there = _is_ours(api, name, where)
        if there:
            _delete(api, name)
    except (Refused, MlscaleError) as error:
        interrupted.add_note(f"{where}: its deletion could not be asked for ({error}); mlscale cleanup")
        return False
    return there


def _delete(api: Api, name: str) -> None:
    try:
        api.delete(path_of("Namespace", name), propagationPolicy="Background")
    except Refused as refused:
        if refused.status != _CONFLICT:
            raise


def _removed(api: Api, name: str, where: str) -> bool:
    if not _is_ours(api, name, where):
        return False
    deadline = time.monotonic() + _GONE_S
    _end_pods(api, name, deadline)
    _delete(api, name)
    while (left := api.find(path_of("Namespace", name))) is not None:
        if time.monotonic() > deadline:
            raise MlscaleError(f"still there after {_GONE_S:g} s: {_blocking(left)}", where, "mlscale cleanup")
        time.sleep(_LOOK_S)
    return True


def _is_ours(api: Api, name: str, where: str) -> bool:
    """Whether it is there. Raises MlscaleError where it is, and not ours."""
    found = api.find(path_of("Namespace", name))
    if found is not None and (found["metadata"].get("labels") or {}).get(MANAGED_BY) != TOOL:
        raise MlscaleError("it was not made by mlscale, so it is left alone", where, "remove the ledger entry")
    return found is not None


def _end_pods(api: Api, name: str, deadline: float) -> None:
    """Delete the owner, and with it everything that makes pods, and wait for the pods' end: a namespace that still has
    some is looked at again only half a grace period later."""
    api.delete(path_of("ConfigMap", OWNER, name), propagationPolicy="Background")
    while api.get(path_of("Pod", namespace=name), {"limit": 1})["items"]:
        if time.monotonic() > deadline:
            return  # the namespace says what blocks it
        time.sleep(_LOOK_S)


def reap(entry: LedgerEntry, own: Path) -> None:
    """Remove the namespace that a ledger entry names. Idempotent. See `reap_named` for ``own`` and what it raises."""
    reap_named(entry, own, "namespace", str(entry.identity["namespace"]), remove)


def _filled(api: Api, wanted: Deployment) -> list[Json]:
    held = owner(wanted)
    uid = api.apply(path_of_object(held), held)["metadata"]["uid"]
    ways = [api.apply(path_of_object(each), each) for each in services(wanted, uid)]
    rest = objects(wanted, uid, addresses(ways))
    return ways + [api.apply(path_of_object(each), each) for each in rest]


def _blocking(left: Json) -> str:
    conditions = (left.get("status") or {}).get("conditions") or ()
    said = [str(each.get("message", "")) for each in conditions if each.get("status") == "True"]
    return "; ".join(filter(None, said)) or "its pods have not ended"
