"""QR matrices: fixed patterns, orientation, and what zxing-cpp gets to see."""

from __future__ import annotations

import numpy as np
import pytest

from codereader import payloads, qr


@pytest.mark.parametrize("version", [1, 2, 5, 7, 10, 14, 25, 40])
def test_fixed_patterns_are_those_of_another_writer(version: int) -> None:
    matrix = qr.encode("mlscale", "L", version)
    pattern = qr.fixed_patterns(version)
    assert matrix.shape == pattern.shape == (qr.size_of(version),) * 2
    assert (matrix[pattern >= 0] == pattern[pattern >= 0]).all()


@pytest.mark.parametrize("level", list("LMQH"))
def test_every_level_reads_back(level: str) -> None:
    rng = np.random.default_rng(5)
    for version in (1, 3, 6, 10):
        text = payloads.qr_text(rng, 2 * version)
        assert qr.read(qr.encode(text, level, version)) == text


@pytest.mark.parametrize(
    "text", ["01234567", "HELLO WORLD", "https://example.org/?q=1", "grüße", "日本語", "a\nb\r\nc"]
)
def test_encodings_read_back(text: str) -> None:
    assert qr.read(qr.encode(text, "M", 4)) == text


def test_orientation_is_found_from_the_matrix() -> None:
    matrix = qr.encode("which way up", "M", 3)
    for turn in range(4):
        upright, back, agreement = qr.orient(np.rot90(matrix, -turn), 3)
        assert (upright == matrix).all()
        assert (back, agreement) == (turn, 1.0)


def test_damage_beyond_the_correction_is_not_read() -> None:
    matrix = qr.encode("damaged", "L", 2)
    data = qr.fixed_patterns(2) < 0
    noise = np.random.default_rng(1).integers(0, 2, matrix.shape).astype(np.uint8)
    assert qr.read(np.where(data, noise, matrix).astype(np.uint8)) is None


def test_rendering_is_clean() -> None:
    matrix = qr.encode("clean", "Q", 2)
    picture = qr.render(matrix)
    side = 3 * (qr.size_of(2) + 8)
    assert picture.shape == (side, side)
    assert set(np.unique(picture)) == {0, 255}
    assert (picture[13:-12:3, 13:-12:3] == 255 * (1 - matrix)).all()
    assert (picture[:12] == 255).all()
