"""The limits below which a box is dismissed as no code, and their basis. `python benchmarks/dismissal.py`.

Generated photos are read without these limits. For each limit: the least value among boxes whose code was read; how
many of them it would have dismissed (some are divided at a gap and read on); and the share of boxes without a code that
it dismisses (a code cut off by the frame counts as none).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codereader import grids, localiser, strips
from codereader.decoder import Decoder, Reading, make_decoder
from codereader.difficulties import DIFFICULTIES
from codereader.evaluation import holds
from codereader.photos import photo_bytes

CELLS = "mean probability of its cells"
BARS = [f"probability of bars, look {look}" for look in range(len(strips._LEAST_LIKELY))]
CODE = "probability of a QR code"
LIMITS = {
    CELLS: localiser._LEAST_MEAN,
    **dict(zip(BARS, strips._LEAST_LIKELY, strict=True)),
    CODE: grids._LEAST_LIKELY,
}


class Watch:
    """Removes the limits and records, box by box, the values they would have been compared with."""

    def __init__(self, decoder: Decoder) -> None:
        self._read, self._sure = decoder._read, localiser._is_sure
        self._likely_bars, self._likely_grid = strips._likely, grids._likely
        localiser._LEAST_MEAN, strips._LEAST_LIKELY, grids._LEAST_LIKELY = 0.0, (-1.0,), -1.0  # type: ignore[assignment]
        decoder._read, localiser._is_sure = self.read, self.sure  # type: ignore[method-assign]
        strips._likely, grids._likely = self.likely_bars, self.likely_grid
        self.boxes: list[tuple[Reading, dict[str, list[float]]]] = []
        self._means: dict[float, float] = {}
        self._values: dict[str, list[float]] = {}

    def sure(self, probabilities: NDArray[np.float64]) -> bool:
        if len(probabilities):
            mean = float(probabilities.mean())
            self._means[mean * float(np.sqrt(len(probabilities)))] = mean  # a box's score identifies it
        return self._sure(probabilities)

    def likely_bars(self, code: NDArray[np.float32]) -> float:
        likely = self._likely_bars(code)
        looks = sum(name in self._values for name in BARS[:-1])  # the last limit holds for all later looks
        self._note(BARS[looks], likely)
        return likely

    def likely_grid(self, logits: NDArray[np.float32]) -> float:
        likely = self._likely_grid(logits)
        self._note(CODE, likely)
        return likely

    def read(self, photo: Any, box: localiser.Box, cpu_s: dict[str, float]) -> Reading:
        self._values = {}
        reading = self._read(photo, box, cpu_s)
        self._note(CELLS, self._means[box.score])
        self.boxes.append((reading, self._values))
        return reading

    def _note(self, name: str, value: Any) -> None:
        self._values.setdefault(name, []).append(float(value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=150, help="of each difficulty and size")
    parser.add_argument("--seed", type=int, default=1_234_567, help="not the validation's, which measures the outcome")
    options = parser.parse_args()
    decoder = make_decoder()
    watch = Watch(decoder)
    read: dict[str, list[list[float]]] = defaultdict(list)
    nothing: dict[str, list[list[float]]] = defaultdict(list)
    for width, height in ((640, 480), (1152, 864)):
        for difficulty in DIFFICULTIES:
            for index in range(options.photos):
                body, label = photo_bytes(options.seed, index, difficulty, width=width, height=height)
                watch.boxes.clear()
                scale = decoder.explain(body).photo.scale
                for reading, by_limit in watch.boxes:
                    group = read if reading.code is not None else nothing
                    if reading.code is not None or not any(holds(reading.box, scale, code) for code in label["codes"]):
                        for name, values in by_limit.items():
                            group[name].append(values)
    print(f"{'':32}{'boxes read':>12}{'least':>8}{'dismissed':>11}{'without code':>14}{'dismissed':>11}")
    for name, limit in LIMITS.items():
        least = min((min(values) for values in read[name]), default=np.nan)
        lost, saved = (sum(min(values) < limit for values in group[name]) for group in (read, nothing))
        print(
            f"{name:32}{len(read[name]):12}{least:8.4f}{lost:11}"
            f"{len(nothing[name]):14}{saved / max(1, len(nothing[name])):11.0%}"
        )


if __name__ == "__main__":
    main()
