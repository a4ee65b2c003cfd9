"""100,000 malformed bodies against the real decoder behind the real server: `make proof`, about half an hour."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from fuzz import bodies
from fuzzed_server import Fuzzing
from server_process import Server

from codereader.photos import photo_bytes

COUNT = 100_000
EVERY = 1_000


def test_100_000_malformed_bodies() -> None:
    with Server(entry="codereader.decoder:make_decoder") as server:
        server.wait_for_line("ready")
        fuzzing = Fuzzing(server, [photo_bytes(3, index, "easy")[0] for index in range(3)])
        began = time.monotonic()
        try:
            for first in range(0, COUNT, EVERY):
                fuzzing.send(bodies(seed=2, count=EVERY, first=first), every=EVERY)
                done = first + EVERY
                left_s = (time.monotonic() - began) / done * (COUNT - done)
                print(
                    f"\r{done} of {COUNT} bodies, {left_s / 60:.0f} min left ", end="", file=sys.__stderr__, flush=True
                )
        finally:
            fuzzing.close()
        print(f"\nstatuses: {dict(sorted(fuzzing.statuses.items()))}", file=sys.__stderr__)
        assert [line for line in server.log if "failed on a body" in line][:10] == []
