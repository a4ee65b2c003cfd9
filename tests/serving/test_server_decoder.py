"""The shipped decoder behind the server: right answers, a reason for every body that is no photo, still serving; after
two hundred malformed bodies too, and in `make proof` 100,000."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fuzz import bodies
from fuzzed_server import Fuzzing
from pictures import camera_note, deep, encoded, png_header
from PIL import Image
from server_process import Server

from codereader.photos import photo_bytes
from mlscale.runs import MlscaleError
from mlscale.serving.inference import blank_png

ENTRY = "codereader.decoder:make_decoder"
reads_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(entry=ENTRY) as running:
        running.wait_for_line("INFO ready")
        yield running


@pytest.fixture(scope="module")
def good() -> tuple[bytes, list[tuple[str, str]]]:
    """A photo that the decoder reads right when called directly: the server must not change its answer."""
    from codereader.decoder import make_decoder

    decoder = make_decoder()
    for index in range(20):
        body, label = photo_bytes(3, index, "easy", codes=1)
        known = [(code["kind"], code["text"]) for code in label["codes"]]
        if [(code["kind"], code["text"]) for code in decoder(body)["codes"]] == known:
            return body, known
    raise MlscaleError("none of 20 easy photos is read", "decoder", "train it again")


def assert_reads(server: Server, good: tuple[bytes, list[tuple[str, str]]]) -> None:
    body, known = good
    codes = server.decode(body).json["codes"]
    assert [(code["kind"], code["text"]) for code in codes] == known
    assert [len(code["corners"]) for code in codes] == [4]


PNG = blank_png()
BAD = {
    "no bytes": (lambda photo: b"", 400),
    "not an image": (lambda photo: b"%PDF-1.7 and so on", 415),
    "truncated": (lambda photo: photo[: len(photo) // 2], 400),
    "the head alone": (lambda photo: photo[:12], 400),
    "a damaged PNG": (lambda photo: PNG[:60] + b"\xff" * 20 + PNG[80:], 422),
    "over the size limit": (lambda photo: photo + b"\0" * 10_000_000, 413),
}


@pytest.mark.parametrize("name", BAD)
def test_a_body_that_is_no_photo(server: Server, good: tuple[bytes, list[tuple[str, str]]], name: str) -> None:
    spoil, status = BAD[name]
    got = server.decode(spoil(good[0]))
    assert got.status == status
    assert len(got.json["error"]) > 5
    assert_reads(server, good)


def on_its_side(image: Image.Image) -> bytes:
    """With the camera's note that says so."""
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=camera_note(6))


def without_colours(image: Image.Image) -> bytes:
    """A palette image that lost its palette, checksums intact."""
    whole = encoded(image.convert("P"), "PNG")
    start = whole.index(b"PLTE") - 4
    return whole[:start] + whole[start + 12 + int.from_bytes(whole[start : start + 4]) :]


# Bodies made of a good photo, and what they are answered with: 200 with its codes, 0 for 200 without any.
UNUSUAL: dict[str, tuple[Callable[[Image.Image], bytes], int]] = {
    "CMYK": (lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95), 200),
    "16 bit": (lambda image: encoded(deep(image), "PNG"), 200),
    "palette": (lambda image: encoded(image.convert("P"), "PNG"), 200),
    "alpha": (lambda image: encoded(image.convert("RGBA"), "PNG"), 200),
    "EXIF rotation": (on_its_side, 200),
    "1 x 1": (lambda image: encoded(image.resize((1, 1)), "PNG"), 0),
    "1 x 20000": (lambda image: encoded(image.resize((1, 20_000)), "PNG"), 0),
    "100 megapixels": (lambda _: png_header(10_000, 10_000), 413),
    "a palette without colours": (without_colours, 422),
    "animated": (lambda image: encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)]), 415),
    "another format": (lambda image: encoded(image, "TIFF"), 415),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_photo(server: Server, good: tuple[bytes, list[tuple[str, str]]], name: str) -> None:
    make, status = UNUSUAL[name]
    with Image.open(io.BytesIO(good[0])) as image:
        got = server.decode(make(image.convert("RGB")))
    assert got.status == (status or 200)
    if got.status == 200:
        assert [(code["kind"], code["text"]) for code in got.json["codes"]] == (good[1] if status else [])
    else:
        assert len(got.json["error"]) > 5
    assert_reads(server, good)


def test_what_it_says_of_an_inference(server: Server, good: tuple[bytes, list[tuple[str, str]]]) -> None:
    headers = server.decode(good[0]).headers
    inference_s, cpu_s = float(headers["x-mlscale-inference-s"]), float(headers["x-mlscale-cpu-s"])
    assert 0 < cpu_s <= inference_s * 1.05  # one thread: no more CPU than time, but for the clocks' grain


@contextmanager
def fuzzed(server: Server) -> Iterator[Fuzzing]:
    fuzzing = Fuzzing(server, [photo_bytes(3, index, "easy")[0] for index in range(3)])
    try:
        yield fuzzing
    finally:
        fuzzing.close()
    assert fuzzing.statuses.keys() >= {200, 400, 415}
    assert [line for line in server.log if "failed on a body" in line][:10] == [], "no bug was met on the way"


@reads_proc
def test_malformed_bodies_get_a_reason_and_good_ones_fare_as_before(server: Server) -> None:
    with fuzzed(server) as fuzzing:
        fuzzing.send(bodies(seed=1, count=200), every=100)


@pytest.mark.proof
@reads_proc
def test_100_000_malformed_bodies(server: Server) -> None:
    """About half an hour."""
    count, every = 100_000, 1_000
    with fuzzed(server) as fuzzing:
        began = time.monotonic()
        for first in range(0, count, every):
            fuzzing.send(bodies(seed=2, count=every, first=first), every=every)
            left_s = (time.monotonic() - began) / (first + every) * (count - first - every)
            told = f"\r{first + every} of {count} bodies, {left_s / 60:.0f} min left "
            print(told, end="", file=sys.__stderr__, flush=True)
        print(f"\nstatuses: {dict(sorted(fuzzing.statuses.items()))}", file=sys.__stderr__)


def test_bodies_are_the_same_again() -> None:
    whole = list(bodies(seed=5, count=12))
    assert whole[4:] == list(bodies(seed=5, count=8, first=4))
    assert len(set(whole)) > 8
