"""The cost of serving layers: one photo at a time through the bare decoder, the aiohttp server, TorchServe, Ray Serve.

    .venv/bin/python benchmarks/overhead.py [--rounds 20] [--environments "torchserve rayserve"] [--photos DIR]

Every layer stays up for the whole run and answers every photo once per round, in random order, so that slow phases of
the machine affect all. The replicas have no CPU quota here. Columns, as medians:

    wall    from request to complete answer, ms
    model   the part of it inside the model, by the server's own clock, ms
    layer   wall - model of the same request, ms: what the layer costs
    ratio   wall / model of the same request, with the interquartile range
    slower  model / the direct call on the same photo in the same round: whether the model itself runs slower there

"slower" compares processes that the kernel weighs differently if cores are short; it means little on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

ENTRY = "codereader.decoder:make_decoder"
DIRECT = "decoder, called directly"


class Caller(Protocol):
    """A way to have a photo decoded."""

    def __call__(self, body: bytes) -> tuple[float, float]:
        """Wall time of the call and of the model in it, s."""
        ...


class Direct:
    """The model in this process."""

    def __init__(self, entry: str) -> None:
        from mlscale.serving.exchange import load_entry

        self._answer = load_entry(entry)

    def __call__(self, body: bytes) -> tuple[float, float]:
        began = time.perf_counter()
        self._answer(body)
        wall_s = time.perf_counter() - began
        return wall_s, wall_s


class Http:
    """POST to a server; ``kept``: over one connection."""

    def __init__(self, url: str, headers: Mapping[str, str], *, kept: bool) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)
        self._path, self._headers, self._kept = parts.path, headers, kept

    def __call__(self, body: bytes) -> tuple[float, float]:
        began = time.perf_counter()
        self._connection.request("POST", self._path, body, dict(self._headers))
        response = self._connection.getresponse()
        text = response.read()
        if not self._kept:
            self._connection.close()
        wall_s = time.perf_counter() - began
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {text[:200]!r}")
        return wall_s, float(response.headers.get("X-Mlscale-Inference-S", "nan"))


def ask(spec: Mapping[str, Any]) -> None:
    """A layer's child process: reads a photo's path per line, prints the times."""
    layer: Caller = Direct(spec["entry"]) if "entry" in spec else Http(spec["url"], spec["headers"], kept=spec["kept"])
    for line in sys.stdin:
        print(*layer(Path(line.strip()).read_bytes()), flush=True)


@dataclass
class Layer:
    """A layer's child process and what it measured: (round, photo) -> (wall s, model s)."""

    name: str
    process: subprocess.Popen[str]
    times: dict[tuple[int, Path], tuple[float, float]] = field(default_factory=dict)

    def ask(self, photo: Path) -> tuple[float, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{photo}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().split()
        if len(line) != 2:
            raise RuntimeError(f"{self.name}: its process ended")
        return float(line[0]), float(line[1])


@contextmanager
def layer_process(name: str, spec: Mapping[str, Any], prefix: Sequence[str] = ()) -> Iterator[Layer]:
    """A layer's child process, placed by ``prefix``."""
    argv = [*prefix, sys.executable, str(Path(__file__).resolve()), "--ask", json.dumps(spec)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Layer(name, process)
        finally:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


@contextmanager
def over_http(name: str, url: str, headers: Mapping[str, str], prefix: Sequence[str] = ()) -> Iterator[list[Layer]]:
    """The same server over fresh and over kept connections."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                layer_process(
                    f"{name}, {connections}",
                    {"url": url, "headers": dict(headers), "kept": connections == "kept"},
                    prefix,
                )
            )
            for connections in ("fresh", "kept")
        ]


@contextmanager
def aiohttp_server(entry: str) -> Iterator[list[Layer]]:
    """`mlscale serve` on a free port of loopback."""
    argv = [sys.executable, "-m", "mlscale.commands.cli", "serve", "--port", "0", "--entry", entry]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            url = ""
            for line in server.stderr:
                if match := re.search(r"listening on (\S+)", line):
                    url = match[1]
                if line.rstrip().endswith("ready"):
                    break
            else:
                raise RuntimeError("mlscale serve did not start")
            with over_http("aiohttp server", f"{url}/decode", {}) as layers:
                yield layers
        finally:
            server.terminate()


@contextmanager
def environment(name: str, entry: str, photos: Sequence[Path]) -> Iterator[list[Layer]]:
    """One replica of an environment, without a CPU limit."""
    from mlscale import environments
    from mlscale.environments import App, Component
    from mlscale.host.facts import host_facts
    from mlscale.host.ledger import Ledger

    chosen = environments.get(name)
    scaling = chosen.arm("static-min").model_copy(update={"cpu_cores": float(host_facts()["cores"])})
    app = App("overhead", "0", (Component("app", entry),), "app")
    bodies = [photo.read_bytes() for photo in photos]
    with (
        Ledger.create(f"overhead-{name}") as ledger,
        chosen.deploy(app, {"app": scaling}, "live", ledger, bodies) as deployed,
        over_http(name, deployed.url, deployed.headers, deployed.load_prefix) as layers,
    ):
        yield layers


def measure(layers: Sequence[Layer], photos: Sequence[Path], rounds: int, seed: int) -> None:
    """Every layer decodes every photo in every round; the first round only warms up."""
    order = random.Random(seed)
    turns = [(layer, photo) for layer in layers for photo in photos]
    for turn in range(rounds + 1):
        order.shuffle(turns)
        for layer, photo in turns:
            times = layer.ask(photo)
            if turn:
                layer.times[turn, photo] = times


def report(layers: Sequence[Layer]) -> str:
    """A line for each layer; the first one is the direct call."""
    base = {key: wall_s for key, (wall_s, _) in layers[0].times.items()}
    lines = [f"{'':28}{'wall':>9}{'model':>9}{'layer':>9}{'ratio':>9}{'quartiles':>18}{'slower':>9}"]
    for layer in layers:
        times = layer.times.values()
        ratios = [wall_s / model_s for wall_s, model_s in times]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        wall_ms, model_ms, layer_ms = (
            1e3 * statistics.median(parts) for parts in zip(*((w, m, w - m) for w, m in times), strict=True)
        )
        slower = statistics.median(model_s / base[key] for key, (_, model_s) in layer.times.items())
        lines.append(
            f"{layer.name:28}{wall_ms:9.2f}{model_ms:9.2f}{layer_ms:9.2f}{ratio:9.3f}"
            f"{f'{low:.3f} to {high:.3f}':>18}{slower:9.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--environments", default="", help='such as "torchserve rayserve"')
    parser.add_argument("--photos", type=Path, help="folder of photo-*.jpg; else 8 photos are generated")
    parser.add_argument("--entry", default=ENTRY)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(json.loads(options.ask))
        return
    from mlscale.host.facts import host_facts
    from mlscale.host.quiet import wait_until_quiet

    quiet = wait_until_quiet()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if options.photos is None:
            from codereader.photos import write_photo_set

            write_photo_set(Path(folder), options.seed, 8)
        photos = sorted((options.photos or Path(folder)).resolve().glob("photo-*.jpg"))
        if not photos:
            parser.error(f"no photo-*.jpg in {options.photos}")
        layers = [stack.enter_context(layer_process(DIRECT, {"entry": options.entry}))]
        layers += stack.enter_context(aiohttp_server(options.entry))
        for name in options.environments.split():
            layers += stack.enter_context(environment(name, options.entry, photos))
        measure(layers, photos, options.rounds, options.seed)
        facts = host_facts()
        print(f"{facts['cpu_model']}, {facts['cores']} cores, {facts['kernel']}; {len(photos)} photos, ", end="")
        print(f"{options.rounds} rounds")
        if not quiet.quiet:
            print(f"The machine was busy beforehand ({quiet.busy_fraction:.0%} of its cores): measure again.")
        print(report(layers))


if __name__ == "__main__":
    main()
