"""Evidence for right and wrong numbers: the basis of the thresholds in `strips`. `python benchmarks/certainty.py`.

Every number read from any box that is likely enough to be compared with the grey values is kept, accepted or not. Per
length of code: how many are right and wrong among clear readings and among the others; how many of these are accepted;
and the strongest evidence (least certain digit and grey values together) for wrong ones. A number cut off by the frame
counts as right. Generated photos only.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from codereader import decoder as decoder_module
from codereader import ean
from codereader.decoder import make_decoder
from codereader.difficulties import DIFFICULTIES
from codereader.photos import photo_bytes
from codereader.strips import BarsRead, is_accepted, read_bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1_234_567, help="not the validation's, which measures the outcome")
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    readings: list[BarsRead] = []

    def keep(bars: BarsRead) -> bool:
        if bars.evidence > -np.inf:
            readings.append(bars)
        return False

    decoder = make_decoder(options.weights)
    decoder_module.read_bars = partial(read_bars, accept=keep)  # type: ignore[attr-defined]
    results: dict[int, list[tuple[float, bool, bool]]] = defaultdict(list)
    for difficulty in DIFFICULTIES:
        for index in range(options.photos):
            body, label = photo_bytes(options.seed, index, difficulty, kinds=tuple(ean.MODULES), codes=2)
            readings.clear()
            decoder.explain(body)
            known = {(code["kind"], code["text"]) for part in ("codes", "cut") for code in label.get(part, ())}
            for bars in readings:
                results[ean.DRAWN[bars.kind]].append(
                    (bars.evidence, is_accepted(bars), (bars.kind, bars.text) in known)
                )
    for count, rows in sorted(results.items()):
        evidence, accepted, right = np.array(rows, dtype=float).T
        clear = np.isinf(evidence)
        sure = [int((clear & (right == value)).sum()) for value in (1, 0)]
        print(f"{count} digits: {sure[0]} clear and right, {sure[1]} clear and wrong")
        for name, kind in (("right", right == 1), ("wrong", right == 0)):
            others = kind & ~clear
            print(f"  {int(others.sum())} others {name}, accepted {int((others & (accepted == 1)).sum())}")
        wrong = np.sort(evidence[~clear & (right == 0)])[::-1]
        print("  strongest evidence for wrong ones: " + ", ".join(f"{value:.2f}" for value in wrong[:8]))


if __name__ == "__main__":
    main()
