"""A program that holds a sandbox with three kinds of processes and then ends in one of several ways.

Usage: caller.py LEDGER_FOLDER HOW. It prints one JSON line about what it holds, then waits for a line on stdin.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from mlscale.host.ledger import Ledger
from mlscale.host.processes import ProcessIdentity
from mlscale.host.sandbox import open_sandbox

SLEEPER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()  # a grandchild that no process group finds
print(os.getpid(), flush=True)
time.sleep(600)
"""


def main() -> None:
    ledger_folder, how = Path(sys.argv[1]), sys.argv[2]
    with Ledger.create("caller", ledger_folder) as ledger, open_sandbox("caller", ledger, grace_s=0.2) as box:
        wrapper = box.replica_wrapper(Path(sys.executable), 0.5, 0.1)
        stubborn = box.spawn([sys.executable, "-S", "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
        replica = box.spawn([wrapper, "-S", "-c", SLEEPER], stdout=subprocess.PIPE, text=True, role="data_plane")
        loader = subprocess.Popen(
            [*box.prefix, sys.executable, "-S", "-c", SLEEPER],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for process in (stubborn, replica, loader):
            assert process.stdout is not None
            process.stdout.readline(), process.stdout.readline()
        first = box._parts.first
        inside = [process.outside for members in box._members.subjects().values() for process in members]
        held = [*inside, stubborn.pid, replica.pid, loader.pid]
        held += [first.pid, first.keeper.pid] if first else []
        about = {
            "folder": str(box.folder),
            "cgroups": [str(folder) for folder in (box._parts.tree.folders if box._parts.tree else ())],
            "processes": [found.to_json() for pid in held if (found := ProcessIdentity.of(pid))],
            "first": first.pid if first else None,
            "keeper": first.keeper.pid if first else None,
            "facts": box.facts,
        }
        sys.stdout.write(json.dumps(about) + "\n")
        sys.stdout.flush()
        end(how)
    loader.wait()


def end(how: str) -> None:
    if how == "kill -9":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fork, then kill -9":  # a forked child must not keep the sandbox open
        if os.fork() == 0:
            sys.stdin.readline()
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exception":
        raise RuntimeError("on purpose")
    if how == "return":
        return
    sys.stdin.readline()


main()
