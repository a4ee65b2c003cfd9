"""What the decoder reads and what it costs: `python benchmarks/decode.py [--photos N] [FOLDER...]`.

Without folders: N generated validation photos of each difficulty, by kind and stage. With folders of real photos
(N.jpg or N.png beside N.txt with the expected text): read, wrong and time per folder. For measuring only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from mlscale.application.decoder import Decoder, make_decoder
from mlscale.application.errors import BadPhoto
from mlscale.application.evaluation import measure, validation
from mlscale.application.generator import DIFFICULTIES, KINDS

_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp")


def generated(decoder: Decoder, count: int, seed: int | None, difficulties: Sequence[str]) -> None:
    """Prints one line per difficulty and one per kind in it."""
    print(f"{'':14}{'codes':>7}{'localised':>11}{'read':>8}{'wrong':>7}{'ms/photo':>10}{'p90':>7}")
    for difficulty in difficulties:
        rates = measure(decoder, validation(difficulty, count, *([] if seed is None else [seed])))
        total = rates.codes.total()
        cost = sorted(rates.cpu_s)
        print(
            f"{difficulty:14}{total:7}{rates.localised.total() / total:11.1%}{rates.share:8.1%}{len(rates.wrong):7}"
            f"{median(cost) * 1e3:10.1f}{cost[int(0.9 * len(cost))] * 1e3:7.1f}"
        )
        for kind in KINDS:
            codes = max(1, rates.codes[kind])
            print(f"  {kind:12}{codes:7}{rates.localised[kind] / codes:11.1%}{rates.read[kind] / codes:8.1%}")
        for wrong in rates.wrong:
            print(f"  WRONG {wrong}")


def real(decoder: Decoder, folder: Path) -> None:
    """Prints how many photos of ``folder`` have their text read, and how many texts were wrong."""
    read = wrong = photos = boxed = 0
    costs = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES):
        text = path.with_suffix(".txt")
        want = "".join(text.read_text(encoding="utf-8").split()) if text.exists() else None
        began = time.thread_time()
        try:
            explained = decoder.explain(path.read_bytes())
        except BadPhoto as error:
            print(f"  {path.name}: {error.reason}")
            continue
        costs.append(time.thread_time() - began)
        found = {"".join(code.text.split()) for code in explained.codes}
        photos += 1
        boxed += bool(explained.readings)
        read += want in found
        wrong += len(found - {want})
        for text_read in found - {want}:
            print(f"  {path.name}: read {text_read!r}, wanted {want!r}")
    print(f"{folder.name:20}{photos:5} photos{boxed:5} with boxes{read:5} read{wrong:4} wrong", end="")
    print(f"{median(costs) * 1e3:8.1f} ms/photo" if costs else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--difficulties", nargs="+", default=DIFFICULTIES, choices=DIFFICULTIES)
    options = parser.parse_args()
    decoder = make_decoder(options.weights)
    for folder in options.folders:
        real(decoder, folder)
    if not options.folders:
        generated(decoder, options.photos, options.seed, options.difficulties)


if __name__ == "__main__":
    main()
