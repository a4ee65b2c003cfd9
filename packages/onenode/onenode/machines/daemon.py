"""The daemon that creates the machines that Karpenter requests; to Karpenter it is the cloud.

``python -m onenode.machines.daemon``, a part of the cluster's own node. It watches NodeClaims, carries out
`onenode.machines.plan`, and records each step before it takes it (a file for each machine, written before anything of
the machine exists): machines outlive it, and the next daemon resumes.
If a machine does not start, or ends unasked, its NodeClaim is deleted, as after an event of a cloud; Karpenter then
requests another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import ssl
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mlscale.atomic import write_whole
from mlscale.environments.kubernetes.names import BOOT, BOOTED
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.machine_types import BootTimes, Catalogue
from mlscale.host.scratch import remove_folder
from mlscale.runs import MlscaleError
from onenode.api import Api
from onenode.layout import Layout
from onenode.list_watch import ListWatch
from onenode.machines.machine import Site
from onenode.machines.plan import Action, Ask, Build, Claim, Join, Leave, Machine, Refuse, Start, Stop, claim_of, plan
from onenode.parts import MACHINES_SOCKET, Programs
from onenode.settings import Settings

logger = logging.getLogger(__name__)

DEFAULT_BOOT: Final = "ec2"
_LOOK_S: Final = 0.2
_AGAIN_S: Final = 2.0
_LAST_ACTIONS_S: Final = 10.0
_FILE: Final = "machine.json"


class Daemon:
    """Keeps the machines as requested."""

    def __init__(self, site: Site, catalogue: Catalogue, api: Api, claims: ListWatch) -> None:
        self._site, self._catalogue, self._api, self._claims = site, catalogue, api, claims
        self._machines = load(site.layout.machines)
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._drawn: Counter[str] = Counter()
        self._building = asyncio.Lock()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop``; actions in progress are finished, within bounds. Machines stay."""
        watch = asyncio.create_task(self._claims.run())
        while not stop.is_set():
            if self._claims.listed:
                self._step()
            await asyncio.sleep(_LOOK_S)
        watch.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_ACTIONS_S)

    def _step(self) -> None:
        claims = [claim for thing in self._claims.objects.values() if (claim := claim_of(thing)) is not None]
        idle = [machine for name, machine in self._machines.items() if name not in self._busy]
        running = {machine.name for machine in idle if self._site.runs(machine)}
        for action in list(plan(claims, self._machines.values(), running, self._busy, time.time())):
            name = action.claim.machine if isinstance(action, Ask | Refuse) else action.machine.name
            self._busy.add(name)
            task = asyncio.create_task(self._do(name, action))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _do(self, name: str, action: Action) -> None:
        try:
            match action:
                case Ask():
                    await self._ask(action.claim, action.number)
                case Build():
                    await self._build(action.machine)
                case Start():
                    await self._start(action.machine)
                case Join():
                    await asyncio.to_thread(self._site.join, action.machine, self._catalogue.types[action.machine.type])
                    self._keep(replace(action.machine, joined=True))
                case Leave():
                    self._keep(replace(action.machine, gone_s=time.time()))
                case Stop():
                    await self._stop(action.machine, action.why, action.claim)
                case Refuse():
                    logger.warning("%s: refused, %s", name, action.why)
                    await self._drop(action.claim.name)
        except (MlscaleError, OSError) as error:
            logger.error("%s: %s; next attempt in %g s", name, error, _AGAIN_S)
            await asyncio.sleep(_AGAIN_S)
        finally:
            self._busy.discard(name)

    async def _ask(self, claim: Claim, number: int) -> None:
        boot_s = (await self._boot_times(claim)).draw(f"{claim.pool}/{self._drawn[claim.pool]}")
        self._drawn[claim.pool] += 1
        asked_s = time.time()
        self._keep(
            Machine(claim.machine, number, claim.name, claim.type, claim.pool, claim.labels, asked_s, round(boot_s, 3))
        )
        logger.info("%s: %s, requested by %s, boots for %.1f s", claim.machine, claim.type, claim.name, boot_s)

    async def _boot_times(self, claim: Claim) -> BootTimes:
        pool = await asyncio.to_thread(self._api.get, path_of("NodePool", claim.pool)) or {}
        text = str(((pool.get("metadata") or {}).get("annotations") or {}).get(BOOT, DEFAULT_BOOT))
        try:
            return self._catalogue.boot_times_of(text)
        except MlscaleError as error:
            logger.error("NodePool %s: %s; using %s", claim.pool, error, DEFAULT_BOOT)
            return self._catalogue.boot_times_of(DEFAULT_BOOT)

    async def _build(self, machine: Machine) -> None:
        """Build one machine at a time: in a cloud, building one would not slow the others."""
        async with self._building:
            try:
                kind = self._catalogue.types[machine.type]
                await asyncio.to_thread(self._site.build, machine, kind)
            except (MlscaleError, OSError, KeyError) as error:
                await self._stop(machine, f"build failed: {error}", machine.claim)
                return
            self._keep(replace(machine, built=True))

    async def _start(self, machine: Machine) -> None:
        try:
            await asyncio.to_thread(self._site.power_on, machine)
        except (MlscaleError, OSError) as error:
            await self._stop(machine, f"start failed: {error}", machine.claim)
            return
        on_s = time.time()
        self._keep(replace(machine, on_s=on_s))
        logger.info("%s: on, %.1f s after its boot time", machine.name, on_s - machine.due_s)
        booted = {"metadata": {"annotations": {BOOTED: datetime.now(UTC).isoformat()}}}
        await asyncio.to_thread(self._api.merge, path_of("NodeClaim", machine.claim), booted)

    async def _stop(self, machine: Machine, why: str, claim: str) -> None:
        logger.info("%s: off, %s", machine.name, why)
        await asyncio.to_thread(self._site.power_off, machine)
        self._machines.pop(machine.name, None)
        if claim:
            await self._drop(claim)

    async def _drop(self, claim: str) -> None:
        await asyncio.to_thread(self._api.delete, path_of("NodeClaim", claim))

    def _keep(self, machine: Machine) -> None:
        save(self._site.layout.machines, machine)
        self._machines[machine.name] = machine


def save(folder: Path, machine: Machine) -> None:
    """Write a record into ``folder``, which holds all machines."""
    write_whole(folder / machine.name / _FILE, json.dumps(asdict(machine), indent=2))


def load(folder: Path) -> dict[str, Machine]:
    """All machines by name. A folder without a record, left by an interrupted removal, is removed.

    Raises:
        MlscaleError: a record is broken.
    """
    machines: dict[str, Machine] = {}
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        file = place / _FILE
        if not file.exists():
            remove_folder(place)
            continue
        try:
            machines[place.name] = Machine(**json.loads(file.read_text()))
        except (TypeError, ValueError) as error:
            raise MlscaleError(f"it is broken: {error}", str(file), "mlscale cluster down") from error
    return machines


async def serve(daemon: Daemon) -> None:
    """Run until SIGTERM; meanwhile `MACHINES_SOCKET` accepts connections."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    Path(MACHINES_SOCKET).unlink(missing_ok=True)
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), MACHINES_SOCKET)
    async with server:
        await daemon.run(stop)


def main(argv: Sequence[str] | None = None) -> int:
    """Create machines until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m onenode.machines.daemon", description=main.__doc__)
    for name, text in (
        ("--root", "folder of the cluster"),
        ("--api-server", "URL of the API server"),
        ("--programs", "file with the programs' locations"),
        ("--catalogue", "file of machine types and boot times"),
    ):
        parser.add_argument(name, required=True, help=text)
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    layout = Layout(Path(options.root))
    settings = Settings.from_json(layout.settings.read_text())
    context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
    context.load_cert_chain(layout.pki / "machines.crt", layout.pki / "machines.key")
    site = Site(layout, settings, Programs.from_json(Path(options.programs).read_text()))
    catalogue = Catalogue.from_json(Path(options.catalogue).read_text())
    claims = ListWatch(options.api_server, context, path_of("NodeClaim"))
    asyncio.run(serve(Daemon(site, catalogue, Api(options.api_server, context), claims)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
