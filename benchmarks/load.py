"""The load generator beside wrk, vegeta, k6 and Locust: lateness, cost and capacity.

    python benchmarks/load.py [--rates 500,2000] [--seconds 6] [--rounds 3] [--peers wrk,vegeta,...] [--processes 3]

All send to the same trivial Go server, in turns (so that changes of the machine affect all alike), each on one core
while the server has another. mlscale, vegeta and k6 (CSV) write a record of every request to a file, wrk and Locust
none. *Paced*: how late is a request sent at a given rate, and at what CPU cost? (k6 does not tell the first; of Locust,
the lateness after its own pacing; wrk has no pace.) *sleep* sends nothing and only wakes up at these times: its
lateness is the machine's own. *Flat out*: how many requests a second do 16 clients without think time make?
*Processes*: the same with one to `--processes` of mlscale, each held to `SHARE` of a core by a quota (root, cgroup v1),
so that they are limited by nothing that they share: does throughput grow with their number?

Go is needed for the server (https://go.dev/dl). Peers that are not installed are left out:
    wrk      apt-get install wrk
    vegeta   go install github.com/tsenart/vegeta/v12@latest
    k6       go install go.k6.io/k6@latest
    Locust   make bench-extra
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from mlscale.host.facts import host_facts
from mlscale.loadgen.process import LoadProcess
from mlscale.loadgen.spec import LoadSpec
from mlscale.runs import ClosedLoop, ClosedStage, Connections, Constant, OpenLoop
from mlscale.runs.info import host_name

CLIENTS = 16
SHARE = 0.3
# A worker in a cgroup of its own, in place of a core of its own.
HELD = f"""
group=/sys/fs/cgroup/cpu/mlscale-bench-$$
mkdir $group && echo {round(100_000 * SHARE)} > $group/cpu.cfs_quota_us && echo $$ > $group/cgroup.procs && exec "$@"
"""
HERE = Path(__file__).parent
NAN = float("nan")
Row = dict[str, float]


def row(rate: float, cores: float, late_s: list[float] | None = None) -> Row:
    ordered = sorted(late_s or [NAN])
    return {
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[int(len(ordered) * 0.99)],
        "rate": rate,
        "cores": cores,
    }


def run(command: list[str], **options: object) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """The finished command, its CPU time and its duration, s: start-up included."""
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, **options)  # type: ignore[call-overload]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode not in (0, 99):
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-500:]}")
    return done, cpu_s, time.monotonic() - began_s


def mlscale(
    url: str, rate: float | None, seconds: float, connections: Connections, on_core: list[str], processes: int = 1
) -> Row:
    closed = ClosedLoop(duration_s=seconds, stages=(ClosedStage(start_s=0, clients=CLIENTS * processes),))
    schedule = OpenLoop(duration_s=seconds, rate=Constant(rate_rps=rate), arrivals="even") if rate else closed
    with tempfile.TemporaryDirectory() as folder, LoadProcess() as load:
        spec = LoadSpec(url=url, schedule=schedule, connections=connections, abort_lateness_s=60.0, workers=processes)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        load.start(spec, on_core, [Path(folder) / f"requests-{number}.arrow" for number in range(processes)])
        load.wait_ready()
        load.release(time.monotonic(), 0.2)
        report = load.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    late = {"p50_ms": 1000 * report.lateness_p50_s, "p99_ms": 1000 * report.lateness_p99_s}
    return row(report.finished / seconds, cpu_s / seconds) | (late if rate else {})


def wrk(url: str, rate: float | None, seconds: float, connections: Connections, on_core: list[str]) -> Row:
    fresh = ["-H", "Connection: close"] if connections == "fresh" else []
    done, cpu_s, _ = run([*on_core, "wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds:g}s", *fresh, url])
    return row(float(re.findall(r"Requests/sec:\s+([\d.]+)", done.stdout)[0]), cpu_s / seconds)


def vegeta(url: str, rate: float | None, seconds: float, connections: Connections, on_core: list[str]) -> Row:
    pace = [f"-rate={rate:g}"] if rate else ["-rate=0", f"-max-workers={CLIENTS}"]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.bin"
        kept = f"-keepalive={str(connections == 'kept').lower()}"
        command = ["vegeta", "attack", *pace, f"-duration={seconds:g}s", kept, f"-output={results}"]
        _, cpu_s, _ = run([*on_core, *command], input=f"GET {url}\n")
        csv = subprocess.run(["vegeta", "encode", "--to=csv", str(results)], capture_output=True, text=True, check=True)
    sent_s = sorted(int(line.split(",", 1)[0]) / 1e9 for line in csv.stdout.splitlines())
    # Request k is due k / rate after the first: vegeta's own pacer, linear from its start.
    late_s = [sent - sent_s[0] - number / rate for number, sent in enumerate(sent_s)] if rate else None
    return row(len(sent_s) / seconds, cpu_s / seconds, late_s)


K6 = """
import http from "k6/http";
const paced = {
  executor: "constant-arrival-rate", rate: RATE, timeUnit: "1s", duration: "SECONDSs", preAllocatedVUs: 64, maxVUs: 512,
};
const flat = {executor: "constant-vus", vus: CLIENTS, duration: "SECONDSs"};
export const options = {scenarios: {load: PACED ? paced : flat}, noConnectionReuse: FRESH};
export default function () { http.get("URL"); }
"""


def k6(url: str, rate: float | None, seconds: float, connections: Connections, on_core: list[str]) -> Row:
    values = {
        "RATE": f"{rate or 1:g}", "SECONDS": f"{seconds:g}", "CLIENTS": str(CLIENTS), "URL": url,
        "PACED": str(rate is not None).lower(), "FRESH": str(connections == "fresh").lower(),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        script, results = Path(folder) / "script.js", Path(folder) / "results.csv"
        script.write_text(re.sub("|".join(values), lambda name: values[name.group()], K6))
        command = ["k6", "run", "--quiet", "--no-usage-report", "--out", f"csv={results}", str(script)]
        _, cpu_s, _ = run([*on_core, *command])
        with results.open() as lines:
            count = sum(line.startswith("http_reqs,") for line in lines)
    return row(count / seconds, cpu_s / seconds)


def locust(url: str, rate: float | None, seconds: float, connections: Connections, on_core: list[str]) -> Row:
    """Locust's FastHttpUser; paced (10 a second and user) or as fast as it can with CLIENTS users."""
    users = str(round(rate / 10) if rate else CLIENTS)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "locust.json"
        environment = os.environ | {
            "BENCH_RESULT": str(result),
            "BENCH_PACING": "0.1" if rate else "0",
            "BENCH_FRESH": "1" if connections == "fresh" else "",
            "BENCH_SECONDS": str(seconds),
        }
        command = [sys.executable, "-m", "locust", "-f", str(HERE / "load_locust.py"), "--headless", "--host", url]
        command += ["--only-summary", "-u", users, "-r", users, "-t", f"{seconds + 3:.0f}s", "-L", "ERROR"]
        subprocess.run([*on_core, *command], check=False, capture_output=True, env=environment, start_new_session=True)
        measured = json.loads(result.read_text())
    return row(measured["rate"], measured["cores"], measured["late_s"])


SLEEP = """
import json, sys, time
rate, seconds = map(float, sys.argv[1:])
begin_s, late_s = time.monotonic(), []
for number in range(int(rate * seconds)):
    due_s = begin_s + number / rate
    time.sleep(max(0.0, due_s - time.monotonic()))
    late_s.append(time.monotonic() - due_s)
print(json.dumps(late_s))
"""


def sleep(url: str, rate: float | None, seconds: float, connections: Connections, on_core: list[str]) -> Row:
    done, cpu_s, _ = run([*on_core, sys.executable, "-c", SLEEP, str(rate), str(seconds)])
    return row(0.0, cpu_s / seconds, json.loads(done.stdout))


Tool = Callable[[str, float | None, float, Connections, list[str]], Row]
TOOLS: dict[str, Tool] = {
    "mlscale": mlscale, "sleep": sleep, "wrk": wrk, "vegeta": vegeta, "k6": k6, "locust": locust,
}  # fmt: skip
# Whether a tool is measured at a pace; the others are at a pace and flat out.
PACED = {"wrk": False, "sleep": True}


def installed(name: str) -> bool:
    if name == "locust":
        return subprocess.run([sys.executable, "-c", "import locust"], capture_output=True).returncode == 0
    return name in ("mlscale", "sleep") or shutil.which(name) is not None


@contextmanager
def server(on_core: list[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "server"
        subprocess.run(["go", "build", "-o", str(program), str(HERE / "load_server.go")], check=True)
        with subprocess.Popen([*on_core, str(program)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
            finally:
                process.terminate()


def measure(rates: list[float], seconds: float, rounds: int, tools: list[str]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows by load, connections and tool; one per round."""
    cores = sorted(os.sched_getaffinity(0))
    pinned = [["taskset", "-c", str(core)] for core in (cores[0], cores[-1])]
    results: dict[tuple[str, str, str], list[Row]] = {}
    loads = [*((f"{rate:g}/s", rate) for rate in rates), ("flat out", None)]
    kinds: tuple[Connections, ...] = ("kept", "fresh")
    with server(pinned[1]) as url:
        for number in range(rounds):
            for (load, rate), kind, tool in product(loads, kinds, tools):
                paced = rate is not None
                if PACED.get(tool, paced) == paced:
                    made = TOOLS[tool](url, rate, seconds, kind, pinned[0])
                    results.setdefault((load, kind, tool), []).append(made)
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return results


def measure_processes(most: int, seconds: float, rounds: int) -> str:
    """Requests/s by number of processes, medians of the rounds, as Markdown."""
    cores = sorted(os.sched_getaffinity(0))
    held = ["taskset", "-c", str(cores[0]), "sh", "-c", HELD, "sh"]
    rates: dict[int, list[float]] = {}
    with server(["taskset", "-c", str(cores[-1])]) as url:
        for _, processes in product(range(rounds), range(1, most + 1)):
            made = mlscale(url, None, seconds, "kept", held, processes)
            rates.setdefault(processes, []).append(made["rate"])
            for group in Path("/sys/fs/cgroup/cpu").glob("mlscale-bench-*"):
                group.rmdir()
    middle = {processes: statistics.median(values) for processes, values in rates.items()}
    lines = [f"| processes, each {SHARE:g} core | requests/s | of that many times one's |", "| --- | --- | --- |"]
    lines += [f"| {number} | {rate:,.0f} | {rate / number / middle[1]:.2f} |" for number, rate in middle.items()]
    return "\n".join(lines)


def table(results: dict[tuple[str, str, str], list[Row]]) -> str:
    """Medians of the rounds, as Markdown."""
    lines = [
        "| load | connections | tool | late p50, ms | late p99, ms | requests/s | of mlscale's | cores |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (load, kind, tool), rows in results.items():
        middle = {name: statistics.median(each[name] for each in rows) for name in rows[0]}
        base = statistics.median(each["rate"] for each in results[load, kind, "mlscale"])
        late = [f"{middle[name]:.2f}" if middle[name] == middle[name] else "" for name in ("p50_ms", "p99_ms")]
        numbers = [*late, f"{middle['rate']:,.0f}", f"{middle['rate'] / base:.2f}", f"{middle['cores']:.2f}"]
        lines.append(f"| {' | '.join([load, kind, tool, *numbers])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="500,2000", help="paced loads, requests/s")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(list(TOOLS)[1:]))
    parser.add_argument("--processes", type=int, default=0, help="also measure one to so many processes")
    options = parser.parse_args()
    if shutil.which("go") is None:
        raise SystemExit("Go is not installed, and the server is written in it: https://go.dev/dl")
    peers = [name for name in options.peers.split(",") if name]
    tools = ["mlscale", *(name for name in peers if installed(name))]
    missing = sorted({*peers} - {*tools})
    print(f"{host_name(host_facts())}, {platform.platform()}, load average {os.getloadavg()[0]:.1f}")
    print(f"not installed: {', '.join(missing)} (see --help)\n" if missing else "")
    print(table(measure([float(rate) for rate in options.rates.split(",")], options.seconds, options.rounds, tools)))
    if options.processes:
        print(f"\n{measure_processes(options.processes, options.seconds, options.rounds)}")


if __name__ == "__main__":
    main()
