"""What the decoder reads and at what cost, beside zxing-cpp and OpenCV: `python benchmarks/decode.py [FOLDER...]`.

Without folders: generated validation photos of each difficulty. With folders of real photos (N.jpg or N.png beside
N.txt with the expected text): one line per folder. For measuring only. If a photo has no such text, what is read is
printed but not counted, except in folders falsepositives*, whose photos have no code (ZXing's names).

Columns: how far the best box of each code got (nowhere: no box; localised; rectified: something fits; read: it fits
well, but is uncertain or does not verify), then right, wrong and the median CPU ms per photo for each reader. OpenCV
needs `make bench-extra`.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zxingcpp
from PIL import Image, ImageOps

from codereader.decoder import STEPS, Decoder, Explanation, make_decoder
from codereader.difficulties import DIFFICULTIES
from codereader.errors import BadPhoto
from codereader.evaluation import VALIDATION_SEED, validation
from codereader.images import open_photo

_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp")
_LIKE_OURS = (
    zxingcpp.BarcodeFormat.EAN13,
    zxingcpp.BarcodeFormat.EAN8,
    zxingcpp.BarcodeFormat.UPCA,
    zxingcpp.BarcodeFormat.UPCE,
    zxingcpp.BarcodeFormat.QRCode,
)
_MEGAPIXEL = {"width": 1152, "height": 864}
Texts = list[str]


@dataclass
class Score:
    """One reader on one group of photos."""

    right: int = 0
    wrong: int = 0
    cpu_s: list[float] = field(default_factory=list)

    def count(self, texts: Texts, expected: Texts, allowed: Texts | None) -> Texts:
        """Count one photo's texts; return the wrong ones."""
        missing = [_plain(text) for text in expected]
        wrong = []
        for text in texts:
            match = next((known for known in missing if _same(_plain(text), known)), None)
            if match is not None:
                missing.remove(match)
                self.right += 1
            elif allowed is not None and not any(_same(_plain(text), _plain(known)) for known in (*expected, *allowed)):
                wrong.append(text)
        self.wrong += len(wrong)
        return wrong

    def cells(self) -> str:
        ms = f"{1e3 * median(self.cpu_s):8.1f}" if self.cpu_s else f"{'-':>8}"
        return f"{self.right:7}{self.wrong:6}{ms}"


@dataclass(frozen=True)
class Case:
    """A photo, its texts, and optional ones (codes cut off by the frame); ``allowed`` None: any."""

    name: str
    body: bytes
    expected: Texts
    allowed: Texts | None


def _plain(text: str) -> str:
    return "".join(text.split())


def _same(text: str, expected: str) -> bool:
    """Equal but for the leading zero that makes an EAN-13 of a UPC-A."""
    return text == expected or (expected.isdigit() and text.lstrip("0") == expected.lstrip("0"))


def generated(difficulty: str, photos: Iterable[tuple[bytes, dict[str, Any]]]) -> Iterator[Case]:
    for index, (body, label) in enumerate(photos):
        texts, cut = ([code["text"] for code in label.get(part, ())] for part in ("codes", "cut"))
        yield Case(f"{difficulty} {index}", body, texts, cut)


def real(folder: Path) -> Iterator[Case]:
    no_code: Texts | None = [] if folder.name.startswith("falsepositives") else None
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES):
        text = path.with_suffix(".txt")
        expected = [text.read_text(encoding="utf-8", errors="replace")] if text.exists() else []
        yield Case(f"{folder.name}/{path.name}", path.read_bytes(), expected, [] if expected else no_code)


def megapixel(cases: Iterable[Case]) -> Iterator[Case]:
    """The same photos, resized to about a million pixels."""
    for case in cases:
        with Image.open(io.BytesIO(case.body)) as image:
            scale = math.sqrt(math.prod(_MEGAPIXEL.values()) / (image.width * image.height))
            size = round(image.width * scale), round(image.height * scale)
            resized, out = ImageOps.exif_transpose(image).convert("RGB").resize(size), io.BytesIO()
        resized.save(out, "JPEG", quality=90)
        yield replace(case, body=out.getvalue())


def peers() -> dict[str, Callable[[np.ndarray[Any, Any]], Texts]]:
    """The other readers by name; each gets the whole photo, grey and upright."""
    readers: dict[str, Callable[[np.ndarray[Any, Any]], Texts]] = {
        "zxing-cpp": lambda grey: [code.text for code in zxingcpp.read_barcodes(grey, formats=_LIKE_OURS)]
    }
    try:
        import cv2
    except ImportError:
        print("OpenCV is not installed: install it with make bench-extra")
        return readers
    cv2.setNumThreads(1)
    bars, squares = cv2.barcode.BarcodeDetector(), cv2.QRCodeDetector()

    def opencv(grey: np.ndarray[Any, Any]) -> Texts:
        texts = [*bars.detectAndDecodeMulti(grey)[1]]
        try:
            texts += squares.detectAndDecodeMulti(grey)[1]
        except (UnicodeDecodeError, cv2.error) as error:  # on bytes that are not UTF-8, and on unknown modes
            print(f"  OpenCV fails: {type(error).__name__}")
        return [text for text in texts if text]

    return readers | {"OpenCV": opencv}


def upright_grey(body: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(body)) as image:
        upright = ImageOps.exif_transpose(image)
        plain = upright.convert("RGBA") if "transparency" in upright.info else upright
        return np.ascontiguousarray(plain.convert("L"))


def compare(
    group: str, cases: Iterable[Case], decoder: Decoder, others: dict[str, Callable[[np.ndarray[Any, Any]], Texts]]
) -> tuple[Counter[str], dict[str, Score], int, int]:
    """Run every reader over ``cases``, taking turns photo by photo."""
    steps: Counter[str] = Counter()
    scores = {name: Score() for name in ("ours", *others)}
    photos = codes = 0
    for case in cases:
        photos, codes = photos + 1, codes + len(case.expected)
        try:
            open_photo(case.body)
        except BadPhoto as error:
            print(f"  {case.name}: {error.reason}")
            continue
        began = time.thread_time()
        explained = decoder.explain(case.body)
        scores["ours"].cpu_s.append(time.thread_time() - began)
        texts = [code.text for code in explained.codes]
        if case.allowed is None:
            print(f"  {case.name} has no label: {texts}")
        for text in scores["ours"].count(texts, case.expected, case.allowed):
            print(f"  {case.name}: WRONG {text!r}")
        steps.update(_steps(explained, len(case.expected)))
        for name, read in others.items():
            began = time.thread_time()
            texts = read(upright_grey(case.body))
            scores[name].cpu_s.append(time.thread_time() - began)
            scores[name].count(texts, case.expected, case.allowed)
    return steps, scores, photos, codes


def _steps(explained: Explanation, codes: int) -> Texts:
    """How far the photo's best boxes got, one per code in it."""
    reached = sorted((STEPS.index(reading.got_to) for reading in explained.readings), reverse=True)[:codes]
    return [STEPS[step] for step in reached] + ["nowhere"] * (codes - len(reached))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--photos", type=int, default=200, help="generated photos of each difficulty")
    parser.add_argument("--seed", type=int, default=VALIDATION_SEED, help="of generated photos; default: validation's")
    parser.add_argument("--megapixel", action="store_true", help="every photo at about 1 megapixel")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--alone", action="store_true", help="without the other readers")
    options = parser.parse_args()
    if missing := [str(folder) for folder in options.folders if not folder.is_dir()]:
        parser.error(f"no folder: {', '.join(missing)}")
    decoder = make_decoder(options.weights, options.device)
    others = {} if options.alone else peers()
    groups: dict[str, Iterable[Case]] = {folder.name: real(folder) for folder in options.folders}
    if options.megapixel:
        groups = {name: megapixel(cases) for name, cases in groups.items()}
    if not groups:
        size = _MEGAPIXEL if options.megapixel else {}
        photos_of = {level: validation(level, options.photos, options.seed, **size) for level in DIFFICULTIES}
        groups = {level: generated(level, photos) for level, photos in photos_of.items()}
    names = ("ours", *others)
    print(f"{'':38}{'':36}" + "".join(f"{name:^21}" for name in names))
    print(
        f"{'':22}{'photos':>8}{'codes':>8}{'nowhere':>9}" + "".join(f"{step:>11}" for step in STEPS[:-1])
        + f"{'right':>7}{'wrong':>6}{'ms':>8}" * len(names)
    )  # fmt: skip
    totals = {name: Score() for name in names}
    for group, cases in groups.items():
        steps, scores, photos, codes = compare(group, cases, decoder, others)
        reached = "".join(f"{steps[step]:11}" for step in STEPS[:-1])
        print(f"{group:22}{photos:8}{codes:8}{steps['nowhere']:9}{reached}" + "".join(scores[n].cells() for n in names))
        for name in names:
            totals[name].right += scores[name].right
            totals[name].wrong += scores[name].wrong
            totals[name].cpu_s += scores[name].cpu_s
    print(f"{'all':80}" + "".join(totals[name].cells() for name in names))


if __name__ == "__main__":
    main()
