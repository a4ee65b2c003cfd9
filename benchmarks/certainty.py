"""How sure right and wrong numbers are: what the thresholds in `strips` rest on. `python benchmarks/certainty.py`.

Every number that any look at any box spells, and that the other strips do not rule out, is kept, believed or not, with
the least and the mean probability of its digits. For each length of code, and for numbers of all strips and of one
strip alone: how many are right and wrong, how sure the surest wrong ones are, and how many right ones lie above them.
Generated photos alone.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from mlscale.application import decoder as decoder_module
from mlscale.application import ean
from mlscale.application.decoder import make_decoder
from mlscale.application.difficulties import DIFFICULTIES
from mlscale.application.photos import photo_bytes
from mlscale.application.strips import DOUBTFUL, BarsRead, read_bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1_234_567, help="not the validation's, which measures the outcome")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--table", type=Path, help="also write every number's row there")
    options = parser.parse_args()
    spelled: list[BarsRead] = []

    def keep(bars: BarsRead) -> bool:
        if bars.support >= DOUBTFUL:
            spelled.append(bars)
        return False

    decoder = make_decoder(options.weights)
    decoder_module.read_bars = partial(read_bars, believe=keep)
    found: dict[tuple[int, bool], list[tuple[float, float, bool]]] = defaultdict(list)
    for difficulty in DIFFICULTIES:
        for index in range(options.photos):
            body, label = photo_bytes(options.seed, index, difficulty, kinds=tuple(ean.MODULES), codes=2)
            spelled.clear()
            decoder.explain(body)
            known = {(code["kind"], code["text"]) for part in ("codes", "cut") for code in label.get(part, ())}
            for bars in spelled:
                found[ean.DRAWN[bars.kind], bars.alone].append((*bars.sure, (bars.kind, bars.text) in known))
    if options.table:
        columns = ("count", "alone", "least", "mean", "right")
        rows = [(*key, *row) for key, part in found.items() for row in part]
        np.savetxt(options.table, np.array(rows, dtype=float), header=" ".join(columns), fmt="%.6f")
    for (count, alone), rows in sorted(found.items()):
        table = np.array(rows)
        right, wrong = table[table[:, 2] == 1], table[table[:, 2] == 0]
        print(f"{count} digits, {'one strip' if alone else 'all strips'}: {len(right)} right, {len(wrong)} wrong")
        for least, mean, _ in sorted(wrong.tolist(), key=lambda row: -row[1])[:8]:
            above = (right[:, 1] > mean).mean() if len(right) else 0.0
            print(f"  wrong at least {least:.3f}, mean {mean:.3f}; {above:6.1%} of the right ones have a higher mean")


if __name__ == "__main__":
    main()
