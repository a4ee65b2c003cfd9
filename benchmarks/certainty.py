"""How sure right and wrong numbers are: what the thresholds in `strips` rest on. `python benchmarks/certainty.py`.

Every number that any look at any box spells and that is likely enough to ask the greys about is kept, believed or not.
For each length of code: how many are right and wrong among those that are clear, and among the others; what speaks for
the wrong ones, least sure digit and greys together; and how many right and wrong ones are believed by that. A number
that the frame cuts counts as right. Generated photos alone.
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
from codereader.strips import BarsRead, is_believed, read_bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1_234_567, help="not the validation's, which measures the outcome")
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    spelled: list[BarsRead] = []

    def keep(bars: BarsRead) -> bool:
        if bars.evidence > -np.inf:
            spelled.append(bars)
        return False

    decoder = make_decoder(options.weights)
    decoder_module.read_bars = partial(read_bars, believe=keep)
    found: dict[int, list[tuple[float, bool, bool]]] = defaultdict(list)
    for difficulty in DIFFICULTIES:
        for index in range(options.photos):
            body, label = photo_bytes(options.seed, index, difficulty, kinds=tuple(ean.MODULES), codes=2)
            spelled.clear()
            decoder.explain(body)
            known = {(code["kind"], code["text"]) for part in ("codes", "cut") for code in label.get(part, ())}
            for bars in spelled:
                found[ean.DRAWN[bars.kind]].append((bars.evidence, is_believed(bars), (bars.kind, bars.text) in known))
    for count, rows in sorted(found.items()):
        evidence, believed, right = np.array(rows, dtype=float).T
        clear = np.isinf(evidence)
        sure = [int((clear & (right == value)).sum()) for value in (1, 0)]
        print(f"{count} digits: {sure[0]} clear and right, {sure[1]} clear and wrong")
        for name, kind in (("right", right == 1), ("wrong", right == 0)):
            others = kind & ~clear
            print(f"  {int(others.sum())} others {name}, believed {int((others & (believed == 1)).sum())}")
        wrong = np.sort(evidence[~clear & (right == 0)])[::-1]
        print("  most that speaks for wrong ones: " + ", ".join(f"{value:.2f}" for value in wrong[:8]))


if __name__ == "__main__":
    main()
