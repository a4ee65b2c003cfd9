"""``make campaign``: faults by the hundred at random moments, and what each left behind. Resumable.

Every trial is a line of the record; docs/reliability.md shows the record as a table (``campaign.py --table``).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers that several folders of tests use

from cluster import Cluster, differences, namespaces, own_cluster, part_killed, read_host
from place import Place
from trials import (
    Command,
    Outcome,
    Trial,
    bad_network,
    clock_stepped,
    disk_full,
    interrupted,
    killed,
    load,
    measure,
    memory_limited,
    simulate,
    two_at_once,
    whole,
)

from mlscale.host.facts import host_facts
from mlscale.progress import Shown
from mlscale_paper.results import filled
from onenode.cache import default_cache
from onenode.packages import find_programs
from onenode.progress import Reporter

ROOT: Final = Path(__file__).parents[2]
RECORD: Final = ROOT / "data/reliability.jsonl"
# Trials that were done again after what they found was mended: as they were, and "why".
REPEATED: Final = ROOT / "data/reliability_repeated.jsonl"
PAGE: Final = ROOT / "docs/reliability.md"
WHOLE_EVERY: Final = 10
# tc's netem is not in every kernel.
TCP: Final = ("-A", "INPUT", "-i", "lo", "-p", "tcp")
LOST: Final = ("-j", "DROP", "-m", "statistic", "--mode", "random", "--probability")
SLOW: Final = ("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "400kbit", "burst", "8kb", "latency", "400ms")


@dataclass(frozen=True)
class Row:
    """A row of the table: what is done to which command, how many times."""

    what: str
    to: str
    times: int
    command: Command
    trial: Trial


def plan(url: str, cluster: Cluster) -> list[Row]:
    """The campaign. ``url``: of a server for ``mlscale load``; ``cluster``: one with machines."""
    kubeconfig = str(cluster.layout.kubeconfig)
    torchserve, rayserve = (measure(name, "--scaling", "max_replicas=2") for name in ("torchserve", "rayserve"))
    k3s = measure("k3s", "--scaling", "max_replicas=2", KUBECONFIG=kubeconfig)
    eks = measure("eks", "--mode", "rehearsal", "--scaling", "boot=1s", KUBECONFIG=kubeconfig)
    loaded, simulated = load(url), simulate("k3s")
    hungry = [measure(name, model="models:make_hungry") for name in ("torchserve", "rayserve")]
    kills = [(torchserve, 45), (rayserve, 25), (k3s, 15), (loaded, 15), (simulated, 5)]
    rows = [Row("kill -9", "mlscale itself", times, command, killed(command)) for command, times in kills]
    for victim, counts in {"replica": (15, 10), "front end": (10, 10), "load generator": (8, 7)}.items():
        for command, times in zip((torchserve, rayserve), counts, strict=True):
            rows.append(Row("kill -9", victim, times, command, killed(command, victim)))
    rows.append(Row("kill -9", "load generator", 5, loaded, killed(loaded, "load generator")))
    for part, command in {"kubelet": k3s, "kube-apiserver": k3s, "machines": eks}.items():
        rows.append(Row("kill -9", part, 10, command, part_killed(cluster, command, part)))
    interrupts = [(torchserve, 20), (rayserve, 12), (k3s, 8), (loaded, 6), (simulated, 4)]
    rows += [Row("Ctrl-C", "the terminal", times, command, interrupted(command)) for command, times in interrupts]
    for where, folder, command, times, kib in (
        ("run folder", "runs", torchserve, 8, (16, 160)),
        ("run folder", "runs", rayserve, 5, (16, 160)),
        ("run folder", "runs", loaded, 5, (16, 64)),
        ("run folder", "runs", simulated, 2, (16, 64)),
        ("scratch folder", "t", torchserve, 5, (64, 2000)),
        ("state home", "state", torchserve, 5, (4, 12)),
    ):
        rows.append(Row("disk full", where, times, command, disk_full(command, folder, *kib)))
    for command in (torchserve, rayserve):
        rows.append(Row("clock stepped by up to 1 h", "all processes", 10, command, clock_stepped(command)))
        for share, times in (("0.02", 3), ("0.2", 2)):
            lossy = bad_network(command, *iptables(), *TCP, *LOST, share)
            rows.append(Row(f"{100 * float(share):g} % of packets lost", "sandbox", times, command, lossy))
        rows.append(Row("400 kbit/s", "sandbox", 5, command, bad_network(command, *SLOW)))
    rows += [Row("memory limit", "replica", 3, command, memory_limited(command, 100_000_000)) for command in hungry]
    rows.append(Row("two starts at once", "one folder", 5, torchserve, two_at_once(torchserve, same_folder=True)))
    rows.append(Row("two starts at once", "two folders", 5, torchserve, two_at_once(torchserve, same_folder=False)))
    return rows


def iptables() -> list[str]:
    """argv of the program that the one-node cluster uses."""
    programs = find_programs(default_cache(), Reporter())
    variables = [f"LD_LIBRARY_PATH={':'.join(map(str, programs.libraries))}"]
    variables += [f"XTABLES_LIBDIR={programs.extensions}"] if programs.extensions else []
    return ["env", *variables, str(programs.paths["iptables"])]


def run(record: Path, seed: int) -> None:
    """Do every trial that the record lacks, in a shuffled order that the seed fixes."""
    host = read_host()
    with served() as url, own_cluster() as cluster, Place.open() as place, Shown() as progress:
        place.others.append(lambda: namespaces(cluster))
        trials = [
            (row, f"{row.what}, {row.to}, {row.command.name}, {n}")
            for row in plan(url, cluster)
            for n in range(row.times)
        ]
        random.Random(seed).shuffle(trials)
        known = {entry["trial"] for entry in read(record)}
        for done, (row, name) in enumerate(trials):
            progress(f"{row.what}: {row.to}, {row.command.name}", done / len(trials))
            if name in known:
                continue
            if row.command.name not in place.lengths_s or done % WHOLE_EVERY == 0:
                write(record, f"before {name}", ("undisturbed", "nothing", row.command.name), whole(place, row.command))
            outcome = row.trial(place, random.Random(f"{seed} {name}"))
            write(record, name, (row.what, row.to, row.command.name), outcome)
    left = [f"left: {line}" for line in differences(host, read_host())]
    write(record, "cluster", ("removed", "cluster", "cluster down"), Outcome(wrong=left))


def write(record: Path, name: str, what: tuple[str, str, str], outcome: Outcome) -> None:
    """Append a line; "what" is done to what, and to which command."""
    entry = {"trial": name, "what": what, **asdict(outcome), "cpu": host_facts()["cpu_model"]}
    entry |= {"moment_s": None if math.isnan(outcome.moment_s) else round(outcome.moment_s, 2)}
    entry |= {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    with record.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def read(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The record as Markdown: a line per fault and command, and what was wrong."""
    if not entries:
        return "No trial is recorded yet."
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry["what"]), []).append(entry)
    lines = ["| what | to | command | times | complete | incomplete | not begun | wrong |", "| --- " * 8 + "|"]
    for key, group in sorted(groups.items()):
        counts = [sum(entry["run"] == run for entry in group) for run in ("complete", "incomplete", "none")]
        wrong = [text for entry in group for text in entry["wrong"]]
        lines.append(
            f"| {' | '.join(key)} | {len(group)} | {' | '.join(map(str, counts))} | {len(wrong) or 'nothing'} |"
        )
    wrong = [f"- {entry['trial']}: {text}" for entry in entries for text in entry["wrong"]]
    days = sorted({entry["at"][:10] for entry in entries})
    total = f"{len(entries)} trials, {days[0]} to {days[-1]}, {', '.join(sorted({e['cpu'] for e in entries}))}."
    return "\n".join([total, "", *lines, "", *(wrong or ["Nothing was wrong in any trial."])])


def page(entries: Sequence[Mapping[str, Any]], repeated: Sequence[Mapping[str, Any]]) -> str:
    """The page with the table of the record, and why trials were done again."""
    reasons = [f"- {times} x {why}" for why, times in Counter(entry["why"] for entry in repeated).most_common()]
    again = [f"{len(repeated)} trials before these were done again:", "", *reasons]
    return filled(PAGE, "campaign", "\n".join([table(entries), "", *again, ""]))


@contextmanager
def served() -> Iterator[str]:
    """A server on this machine for ``mlscale load``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--record", type=Path, default=RECORD, help="JSON lines, one per trial; an existing one is continued"
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--table", action="store_true", help="only write the record into docs/reliability.md")
    given = options.parse_args()
    if not given.table:
        try:
            run(given.record, given.seed)
        except KeyboardInterrupt:
            sys.exit(f"stopped; the same command goes on after the trials in {given.record}")
    entries = read(given.record)
    PAGE.write_text(page(entries, read(REPEATED)))
    wrong = [entry for entry in entries if entry["wrong"]]
    sys.stdout.write(f"{given.record}: {len(entries)} trials, {len(wrong)} with something wrong; see {PAGE}\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
