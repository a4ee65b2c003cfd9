"""Ctrl-C and SIGTERM wherever a run talks to the API server: the namespace's deletion is asked for, or it stays in the
ledger for `mlscale cleanup`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlscale.environments.kubernetes.client import KubeContext, Refused, Unreachable
from mlscale.environments.kubernetes.manifests import DeployedComponent, Deployment, Packaging
from mlscale.environments.kubernetes.namespace import created
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.host.ledger import Ledger
from mlscale.runs import MlscaleError

NAME = "mlscale-0123abcd"
NAMESPACE = path_of("Namespace", NAME)
# Calls that make it: namespace, owner, two each of services, deployments, autoscalers.
FILLED = 8


class FakeApi:
    """Stands in for an API server: it keeps a namespace, and raises where it is told to, before or after the call
    took effect. A namespace that is deleted takes one more look to be gone."""

    kube_context = KubeContext("/nowhere/kubeconfig", "x")
    server = "https://192.0.2.1"

    def __init__(self, *raising: tuple[int, bool], error: BaseException | None = None) -> None:
        self._raising, self._error = dict(raising), error or KeyboardInterrupt()
        self.calls: list[tuple[str, str]] = []
        self.thing: dict[str, Any] | None = None
        self.deleted = False

    def apply(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            if path == NAMESPACE:
                self.thing = dict(manifest)
            elif manifest["kind"] == "Service":
                return {**manifest, "spec": {**manifest["spec"], "clusterIP": "10.43.0.9"}}
            return {**manifest, "metadata": {**manifest["metadata"], "uid": "uid"}}

        return self._called("apply", path, effect)  # type: ignore[no-any-return]

    def find(self, path: str) -> dict[str, Any] | None:
        def effect() -> dict[str, Any] | None:
            found = self.thing
            if self.deleted:
                self.thing = None
            return found

        return self._called("find", path, effect)  # type: ignore[no-any-return]

    def get(self, path: str, query: Any) -> dict[str, Any]:
        return self._called("get", path, lambda: {"items": []})  # type: ignore[no-any-return]

    def delete(self, path: str, **_: Any) -> None:
        def effect() -> None:
            self.deleted = self.deleted or path == NAMESPACE

        self._called("delete", path, effect)

    def _called(self, verb: str, path: str, effect: Any) -> Any:
        self.calls.append((verb, path))
        number = len(self.calls)
        if self._raising.get(number) is False:
            raise self._error
        found = effect()
        if self._raising.get(number) is True:
            raise self._error
        return found


def wanted() -> Deployment:
    packed = Packaging("app:1", ("python",))
    back = DeployedComponent("back", "m:f", KubernetesScaling(), packed, front=False)
    front = DeployedComponent("front", "m:f", KubernetesScaling(), packed, calls=("back",))
    return Deployment(NAME, NAME, "demo", (back, front))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create("interrupted", tmp_path) as opened:
        yield opened


def whole_life(api: FakeApi, ledger: Ledger) -> None:
    with created(api, wanted(), ledger):  # type: ignore[arg-type]
        pass


def interrupted_run(api: FakeApi, ledger: Ledger) -> None:
    with created(api, wanted(), ledger):  # type: ignore[arg-type]
        raise KeyboardInterrupt


def number_of_calls(folder: Path) -> int:
    api = FakeApi()
    with Ledger.create("undisturbed", folder) as opened:
        whole_life(api, opened)
        assert opened.open_entries == ()
    assert api.thing is None
    return len(api.calls)


def covered(api: FakeApi, ledger: Ledger) -> bool:
    """Nothing is there or will be, or somebody knows of it."""
    return api.thing is None or api.deleted or bool(ledger.open_entries)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
@pytest.mark.parametrize("after", [False, True])
def test_one_interrupt_at_any_call_has_the_namespace_deleted(tmp_path: Path, error: BaseException, after: bool) -> None:
    for number in range(1, number_of_calls(tmp_path) + 1):
        api = FakeApi((number, after), error=error)
        with Ledger.create("interrupted", tmp_path) as ledger:
            with pytest.raises(type(error)):
                whole_life(api, ledger)
            assert api.deleted or api.thing is None, f"interrupted in call {number}: {api.calls[number - 1]}"
            assert covered(api, ledger)
            left = ledger.open_entries
            assert not left or number <= FILLED, "while it is being deleted, that is ended first"
            for entry in left:
                ledger.done(entry)
        if not left:
            assert api.thing is None, "what may still be there is in the ledger"


@pytest.mark.parametrize("after", [False, True])
def test_two_interrupts_leave_nothing_that_is_not_in_the_ledger(tmp_path: Path, after: bool) -> None:
    calls = number_of_calls(tmp_path)
    for first in range(1, calls + 1):
        for second in range(first + 1, calls + 4):
            api = FakeApi((first, after), (second, after))
            with Ledger.create("interrupted", tmp_path) as ledger:
                with pytest.raises(KeyboardInterrupt):
                    whole_life(api, ledger)
                assert ledger.open_entries or api.thing is None, f"interrupted in {first} and {second}"
                for entry in ledger.open_entries:
                    ledger.done(entry)


def test_the_deletion_is_asked_for_before_anything_is_waited_for(ledger: Ledger) -> None:
    api = FakeApi((FILLED + 4, False))  # and once more in what then follows
    with pytest.raises(KeyboardInterrupt):
        interrupted_run(api, ledger)
    assert api.calls[FILLED : FILLED + 2] == [("find", NAMESPACE), ("delete", NAMESPACE)]
    assert api.deleted, "it is no longer Active"
    (entry,) = ledger.open_entries
    ledger.done(entry)


def test_a_deletion_that_is_under_way_is_waited_for(ledger: Ledger) -> None:
    """As other versions of the API server answer to the second one."""
    undisturbed = FakeApi()
    interrupted_twice = [(verb, path) for verb, path in _calls_of(undisturbed, ledger) if verb == "delete"]
    assert interrupted_twice.count(("delete", NAMESPACE)) == 2
    second = max(n for n, call in enumerate(undisturbed.calls, 1) if call == ("delete", NAMESPACE))
    refusing = FakeApi((second, False), error=Refused(409, "Conflict", "being removed", "delete", NAMESPACE))
    _calls_of(refusing, ledger)
    assert ledger.open_entries == ()
    assert refusing.thing is None


def test_without_the_right_to_end_pods_the_namespace_s_deletion_ends_them(ledger: Ledger) -> None:
    refusing = FakeApi((FILLED + 2, False), error=Refused(403, "Forbidden", "no", "delete", "configmaps"))
    whole_life(refusing, ledger)
    assert refusing.thing is None
    assert ledger.open_entries == ()


def _calls_of(api: FakeApi, ledger: Ledger) -> list[tuple[str, str]]:
    with pytest.raises(KeyboardInterrupt):
        interrupted_run(api, ledger)
    return api.calls


def test_a_namespace_whose_making_was_broken_off_stays_in_the_ledger(ledger: Ledger) -> None:
    api = FakeApi((1, False))
    with pytest.raises(KeyboardInterrupt):
        whole_life(api, ledger)
    (entry,) = ledger.open_entries  # the request may be on its way
    assert entry.identity["namespace"] == NAME
    ledger.done(entry)


def test_one_that_was_refused_does_not(ledger: Ledger) -> None:
    with pytest.raises(MlscaleError, match="may not patch"):
        whole_life(FakeApi((1, False), error=Refused(403, "Forbidden", "no", "patch", NAMESPACE)), ledger)
    assert ledger.open_entries == ()


def test_a_cluster_that_is_gone_leaves_it_in_the_ledger(ledger: Ledger) -> None:
    gone = Unreachable("the API server does not answer", "https://192.0.2.1", "start it")
    with pytest.raises(Unreachable):
        whole_life(FakeApi((9, False), error=gone), ledger)
    (entry,) = ledger.open_entries
    ledger.done(entry)
