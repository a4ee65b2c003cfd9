"""How long a replica needs until its first answer, and what it holds in memory: `python benchmarks/coldstart.py`.

Every round starts processes of its own: one that only imports torch, one that also makes the decoder and answers twice.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median

TORCH = """
import json, time
began = time.perf_counter()
import torch
torch.set_num_threads(1)
print(json.dumps({"import torch": time.perf_counter() - began, "rss_mib": RSS}))
"""
DECODER = """
import json, time
began = time.perf_counter()
import torch
torch_s = time.perf_counter() - began
from mlscale.application.decoder import make_decoder
imported_s = time.perf_counter() - began
decoder = make_decoder()
loaded_s = time.perf_counter() - began
from mlscale.application.photos import photo_bytes
body, _ = photo_bytes(0, 0)
answers = []
for _ in range(3):
    asked = time.perf_counter()
    decoder(body)
    answers.append(time.perf_counter() - asked)
print(json.dumps({
    "import torch": torch_s, "import decoder": imported_s - torch_s, "weights": loaded_s - imported_s,
    "first answer": answers[0], "third answer": answers[2],
    "until the first answer": loaded_s + answers[0], "rss_mib": RSS,
}))
"""
RSS = 'int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20'


def run(program: str) -> dict[str, float]:
    source = program.replace("RSS", RSS)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    bare, whole = [], []
    for _ in range(rounds):
        bare.append(run(TORCH))
        whole.append(run(DECODER))
    print(f"median of {rounds} processes each")
    for name in whole[0]:
        if name != "rss_mib":
            print(f"{name:24}{median(one[name] for one in whole):8.2f} s")
    torch_mib, decoder_mib = (median(one["rss_mib"] for one in group) for group in (bare, whole))
    print(f"{'memory':24}{decoder_mib:8.0f} MiB, {decoder_mib - torch_mib:.0f} above {torch_mib:.0f} of import torch")


if __name__ == "__main__":
    main()
