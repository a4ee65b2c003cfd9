"""A replica's time to its first answer and its memory: `python benchmarks/coldstart.py`.

Every round starts new processes: one that only imports torch, one that also creates the decoder and answers three
times. One more answers photos of many sizes, for peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from codereader.photos import photo_bytes

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
from codereader.decoder import make_decoder
imported_s = time.perf_counter() - began
decoder = make_decoder()
loaded_s = time.perf_counter() - began
from codereader.photos import photo_bytes
body, _ = photo_bytes(0, 0)
answers = []
for _ in range(3):
    sent = time.perf_counter()
    decoder(body)
    answers.append(time.perf_counter() - sent)
print(json.dumps({
    "import torch": torch_s, "import decoder": imported_s - torch_s, "weights": loaded_s - imported_s,
    "first answer": answers[0], "third answer": answers[2],
    "until the first answer": loaded_s + answers[0], "rss_mib": RSS,
}))
"""
SIZES = """
import json, sys
from pathlib import Path
from codereader.decoder import make_decoder
decoder = make_decoder()
for path in Path(sys.argv[1]).iterdir():
    decoder(path.read_bytes())
[peak_kib] = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps({"peak_mib": peak_kib / 1024}))
"""
RSS = 'int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20'


def run(program: str, *arguments: str) -> dict[str, float]:
    source = program.replace("RSS", RSS)
    done = subprocess.run([sys.executable, "-c", source, *arguments], capture_output=True, text=True, check=True)
    row: dict[str, float] = json.loads(done.stdout)
    return row


def peak_mib(sizes: int) -> float:
    """Peak memory of a replica that answers hard photos of ``sizes`` sizes, up to 1.3 megapixels."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = np.random.default_rng(0).integers([640, 480], [1300, 1000], (sizes, 2)).tolist()
        for index, (width, height) in enumerate(chosen):
            body, _ = photo_bytes(77, index, "hard", width=width, height=height)
            Path(folder, str(index)).write_bytes(body)
        return run(SIZES, folder)["peak_mib"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, default=150)
    options = parser.parse_args()
    rounds = options.rounds
    bare, whole = [], []
    for _ in range(rounds):
        bare.append(run(TORCH))
        whole.append(run(DECODER))
    print(f"median of {rounds} processes each")
    for name in whole[0]:
        if name != "rss_mib":
            print(f"{name:24}{median(row[name] for row in whole):8.2f} s")
    torch_mib, decoder_mib = (median(row["rss_mib"] for row in group) for group in (bare, whole))
    print(f"{'memory':24}{decoder_mib:8.0f} MiB, {decoder_mib - torch_mib:.0f} above {torch_mib:.0f} of import torch")
    most_mib = peak_mib(options.sizes)
    print(f"{f'at most, {options.sizes} sizes':24}{most_mib:8.0f} MiB, {most_mib - torch_mib:.0f} above")


if __name__ == "__main__":
    main()
