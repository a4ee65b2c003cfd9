"""What the daemon of the machines does next: by rule, and whatever happens in whatever order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from onenode.machines.plan import (
    APART_S,
    GRACE_S,
    MOST_MACHINES,
    Ask,
    Build,
    Claim,
    Join,
    Leave,
    Machine,
    Refuse,
    Start,
    Stop,
    claim_of,
    plan,
)

CLAIM = Claim("pool-x1", "brave-otter", "rehearsal.small", "pool", {"karpenter.sh/nodepool": "pool"})
MACHINE = Machine("brave-otter", 1, "pool-x1", "rehearsal.small", "pool", {}, asked_s=100.0, boot_s=10.0)
BUILT = replace(MACHINE, built=True)
ON = replace(BUILT, on_s=110.0)


def next_actions(claims: list[Claim], machines: list[Machine], now_s: float, *, dark: bool = False) -> list[object]:
    running = set() if dark else {machine.name for machine in machines if machine.built}
    return list(plan(claims, machines, running, set(), now_s))


def test_a_claim_becomes_a_machine_once_its_boot_time_has_passed() -> None:
    assert next_actions([CLAIM], [], 100.0) == [Ask(CLAIM, 1)]
    assert next_actions([CLAIM], [BUILT], 109.9) == []
    assert next_actions([CLAIM], [BUILT], 110.0) == [Start(BUILT)]
    assert next_actions([CLAIM], [ON], 200.0) == []


def test_a_machine_whose_node_is_ready_joins_once() -> None:
    ready = replace(CLAIM, ready=True)
    assert next_actions([ready], [ON], 112.0) == [Join(ON)]
    assert next_actions([ready], [replace(ON, joined=True)], 112.5) == []
    assert next_actions([ready], [ON], 112.0, dark=True) == [Stop(ON, "it ended unexpectedly", "pool-x1")]


def test_a_machine_is_built_while_it_boots_and_anew_where_its_first_process_is_gone() -> None:
    assert next_actions([CLAIM], [MACHINE], 100.0) == [Build(MACHINE)]
    assert next_actions([CLAIM], [MACHINE], 200.0) == [Build(MACHINE)], "not started unbuilt, however late"
    assert next_actions([CLAIM], [BUILT], 105.0, dark=True) == [Build(BUILT)]


def test_machines_that_are_due_together_start_one_after_the_other_the_first_due_first() -> None:
    late, early = BUILT, replace(BUILT, name="quiet-heron", number=2, claim="pool-x2", asked_s=99.0)
    claims = [CLAIM, replace(CLAIM, name=early.claim, machine=early.name)]
    assert next_actions(claims, [late, early], 110.0) == [Start(early)]
    running = {late.name, early.name}
    assert list(plan(claims, [late, early], running, {early.name}, 110.1)) == [], "it is being started"
    on = replace(early, on_s=110.2)
    assert next_actions(claims, [late, on], 110.1 + APART_S) == []
    assert next_actions(claims, [late, on], 110.2 + APART_S) == [Start(late)]


def test_one_that_is_built_keeps_none_that_is_due_waiting() -> None:
    other = replace(MACHINE, name="quiet-heron", number=2, claim="pool-x2", boot_s=60.0)
    claims = [CLAIM, replace(CLAIM, name=other.claim, machine=other.name)]
    assert list(plan(claims, [BUILT, other], {BUILT.name}, {other.name}, 110.0)) == [Start(BUILT)]


def test_a_machine_whose_claim_is_gone_has_a_moment_left() -> None:
    assert next_actions([], [ON], 200.0) == [Leave(ON)]
    leaving = replace(ON, gone_s=200.0)
    assert next_actions([], [leaving], 200.0 + GRACE_S - 0.1) == []
    assert next_actions([], [leaving], 200.0 + GRACE_S) == [Stop(leaving, "no longer requested")]


def test_a_claim_deleted_while_its_machine_boots_ends_it_unstarted() -> None:
    ending = replace(CLAIM, ending=True)
    assert next_actions([ending], [MACHINE], 150.0) == []
    assert next_actions([ending], [BUILT], 150.0) == []
    for machine in (MACHINE, BUILT):
        assert next_actions([], [machine], 105.0) == [Stop(machine, "no longer requested")]
    assert next_actions([ending], [], 100.0) == []


def test_a_machine_that_goes_dark_is_given_up_and_so_is_its_claim() -> None:
    assert next_actions([CLAIM], [ON], 200.0, dark=True) == [Stop(ON, "it ended unexpectedly", "pool-x1")]
    assert next_actions([], [ON], 200.0, dark=True) == [Stop(ON, "no longer requested")]


def test_what_is_being_done_is_not_done_twice() -> None:
    assert list(plan([CLAIM], [], set(), {"brave-otter"}, 100.0)) == []
    assert list(plan([CLAIM], [MACHINE], set(), {"brave-otter"}, 200.0)) == []


def test_numbers_are_used_again_and_run_out() -> None:
    others = [replace(ON, name=f"m{number}", number=number) for number in range(1, MOST_MACHINES + 1) if number != 7]
    claims = [CLAIM, *(replace(CLAIM, name=each.claim, machine=each.name) for each in others)]
    assert next_actions(claims, others, 200.0) == [Ask(CLAIM, 7)]
    full = [*others, replace(ON, name="m7", number=7)]
    (refused,) = next_actions([*claims, replace(CLAIM, machine="m7")], full, 200.0)
    assert isinstance(refused, Refuse)
    assert refused.claim == CLAIM


def test_a_node_claim_is_read_once_it_has_a_machine() -> None:
    thing = {
        "metadata": {
            "name": "pool-x1",
            "labels": {"karpenter.sh/nodepool": "pool", "node.kubernetes.io/instance-type": "rehearsal.small"},
        }
    }
    assert claim_of(thing) is None
    found = claim_of({**thing, "status": {"providerID": "kwok://brave-otter"}})
    assert found is not None
    assert (found.machine, found.type, found.pool) == ("brave-otter", "rehearsal.small", "pool")
    assert (found.ready, found.ending) == (False, False)
    conditions = [{"type": "Registered", "status": "True"}, {"type": "Initialized", "status": "True"}]
    joined = claim_of({**thing, "status": {"providerID": "kwok://brave-otter", "conditions": conditions}})
    assert joined is not None
    assert joined.ready
    assert claim_of({**thing, "status": {"providerID": "aws:///zone/i-1"}}) is None


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_no_machine_stays_without_a_claim_and_none_lacks_one(seed: int) -> None:
    chance = random.Random(seed)
    steps = chance.choices(["claim", "ready", "unclaim", "end", "dark", "wait"], k=40)
    claims: dict[str, Claim] = {}
    machines: dict[str, Machine] = {}
    running: set[str] = set()
    now_s, made = 0.0, 0

    def act() -> None:
        for action in list(plan(claims.values(), machines.values(), running, set(), now_s)):
            match action:
                case Ask(claim, number):
                    assert number not in {each.number for each in machines.values()}
                    machines[claim.machine] = replace(MACHINE, name=claim.machine, number=number, asked_s=now_s)
                case Build(machine):
                    assert machine.name in claims
                    machines[machine.name] = replace(machine, built=True)
                    running.add(machine.name)
                case Start(machine):
                    assert machine.name in claims
                    assert machine.name in running
                    machines[machine.name] = replace(machine, on_s=now_s)
                case Join(machine):
                    assert claims[machine.name].ready
                    assert machine.name in running
                    machines[machine.name] = replace(machine, joined=True)
                case Leave(machine):
                    machines[machine.name] = replace(machine, gone_s=now_s)
                case Stop(machine, _, claim):
                    running.discard(machine.name)
                    del machines[machine.name]
                    if claim:
                        claims.pop(machine.name)

    for step in steps:
        name = chance.choice(sorted(claims)) if claims else ""
        if step == "claim":
            made += 1
            claims[f"m{made}"] = replace(CLAIM, name=f"c{made}", machine=f"m{made}")
        elif step == "ready" and name:
            claims[name] = replace(claims[name], ready=name in running)
        elif step == "unclaim" and name:
            del claims[name]
        elif step == "end" and name:
            claims[name] = replace(claims[name], ending=True)
        elif step == "dark" and name:
            running.discard(name)
        else:
            now_s += 20
        act()
    for name in [name for name, claim in claims.items() if claim.ending]:
        del claims[name]
    for _ in range(4 + len(claims)):
        now_s += 20
        act()
    assert {name for name, machine in machines.items() if machine.on} == set(claims) == running == set(machines)
