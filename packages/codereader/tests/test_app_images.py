"""Bodies by name: each a clear reason or a photo."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import camera_note, deep, encoded, png_header
from PIL import GifImagePlugin, Image

from codereader import images
from codereader.errors import BadPhoto

RAMP = Image.fromarray(np.tile(np.arange(96, dtype=np.uint8), (64, 1)))

GRAIN = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8))


BAD = {
    "empty": (b"", 400),
    "text": (b"hello, this is not a picture", 415),
    "json": (b'{"image": 1}', 415),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "truncated jpeg": (encoded(GRAIN, "JPEG")[:-900], 400),
    "truncated png": (encoded(GRAIN, "PNG")[:-900], 400),
    "header only": (encoded(RAMP, "JPEG")[:20], 400),
    "damaged png": (encoded(RAMP, "PNG").replace(b"IDAT", b"IDAT\x00\x00\x00\x00"), None),
    "100 megapixels": (png_header(10_000, 10_000), 413),
    "a bomb": (png_header(60_000, 60_000), 413),
    "too many bytes": (b"\xff\xd8" + bytes(images.MAX_BYTES), 413),
    "animated gif": (encoded(RAMP, "GIF", save_all=True, append_images=[RAMP.rotate(90)]), 415),
    "animated png": (encoded(RAMP, "PNG", save_all=True, append_images=[RAMP.rotate(90)]), 415),
    "tiff": (encoded(RAMP, "TIFF"), 415),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bodies_have_a_reason(name: str) -> None:
    body, status = BAD[name]
    with pytest.raises(BadPhoto) as caught:
        images.open_photo(body)
    assert caught.value.reason
    assert 400 <= caught.value.http_status < 500
    assert status is None or caught.value.http_status == status


GOOD = {
    "grey": encoded(RAMP, "PNG"),
    "colour": encoded(RAMP.convert("RGB"), "PNG"),
    "cmyk": encoded(RAMP.convert("RGB").convert("CMYK"), "JPEG", quality=95),
    "palette": encoded(RAMP.convert("P"), "PNG"),
    "two levels": encoded(RAMP.point(lambda level: 255 * (level > 47)).convert("1"), "PNG"),
    "16 bit": encoded(deep(RAMP), "PNG"),
    "alpha": encoded(RAMP.convert("RGBA"), "PNG"),
    "grey and alpha": encoded(RAMP.convert("LA"), "PNG"),
    "webp": encoded(RAMP.convert("RGB"), "WEBP", lossless=True),
    "bmp": encoded(RAMP, "BMP"),
    "still gif": encoded(RAMP, "GIF"),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_image_becomes_the_same_grey(name: str) -> None:
    photo = images.open_photo(GOOD[name])
    assert (photo.grey.mode, photo.size, photo.grey.size) == ("L", (96, 64), (96, 64))
    grey = np.asarray(photo.grey, dtype=float)
    want = np.asarray(RAMP, dtype=float) if name != "two levels" else 255.0 * (np.asarray(RAMP) > 47)
    assert np.abs(grey - want).max() < 8


def test_transparent_parts_are_white() -> None:
    for body in (
        encoded(Image.new("RGBA", (40, 40), (0, 0, 0, 0)), "PNG"),
        encoded(Image.new("L", (40, 40), 0), "PNG", transparency=0),
    ):
        assert np.asarray(images.open_photo(body).grey).min() == 255


def test_an_animation_is_refused_without_counting_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 000 of them fit in 10 MB, and take 6 s to count."""
    monkeypatch.setattr(GifImagePlugin.GifImageFile, "n_frames", property(lambda _: pytest.fail("counted")))
    with pytest.raises(BadPhoto, match="animated"):
        images.open_photo(BAD["animated gif"][0])


@pytest.mark.parametrize(("orientation", "size"), [(1, (96, 64)), (3, (96, 64)), (6, (64, 96)), (8, (64, 96))])
def test_exif_rotation_is_undone(orientation: int, size: tuple[int, int]) -> None:
    photo = images.open_photo(encoded(RAMP, "JPEG", exif=camera_note(orientation), quality=95))
    assert photo.size == photo.grey.size == size
    grey = np.asarray(photo.grey, dtype=float)
    dark = {1: grey[:, 0], 3: grey[:, -1], 6: grey[0], 8: grey[-1]}[orientation]
    assert dark.max() < 10


def test_broken_exif_is_ignored() -> None:
    body = encoded(RAMP, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert images.open_photo(body).size == (96, 64)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3000, 2000)])
def test_odd_sizes_keep_their_scale(size: tuple[int, int]) -> None:
    photo = images.open_photo(encoded(Image.new("L", size, 200), "PNG"))
    assert photo.size == size
    assert max(photo.grey.size) <= 2000
    assert np.allclose(np.array(photo.scale) * photo.grey.size, size)
