"""Generated photos: reproducible, labelled right, of every kind."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlscale.application import ean, generator
from mlscale.application.errors import ApplicationError
from mlscale.application.geometry import homography, project, rectangle
from mlscale.application.photos import photo_bytes, write_photo_set


@pytest.mark.parametrize("difficulty", generator.DIFFICULTIES)
def test_same_seed_same_photo(difficulty: str) -> None:
    assert photo_bytes(3, 5, difficulty) == photo_bytes(3, 5, difficulty)
    assert photo_bytes(3, 5, difficulty)[0] != photo_bytes(4, 5, difficulty)[0]


def test_a_photo_set_is_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_photo_set(tmp_path / name, seed=11, count=4)
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.name for path in one] == [*(f"photo-{index:03d}.jpg" for index in range(4)), "labels.jsonl"][-1:] + [
        f"photo-{index:03d}.jpg" for index in range(4)
    ]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    labels = [json.loads(line) for line in (tmp_path / "one" / "labels.jsonl").read_text().splitlines()]
    assert [label["file"] for label in labels] == [f"photo-{index:03d}.jpg" for index in range(4)]


def test_codes_are_valid_inside_the_photo_and_of_every_kind() -> None:
    kinds = set()
    for index in range(25):
        body, label = photo_bytes(1, index, "medium")
        with Image.open(io.BytesIO(body)) as image:
            assert (image.size, image.mode) == ((640, 480), "RGB")
        for code in label["codes"]:
            corners = np.array(code["corners"])
            assert (corners >= 0).all()
            assert (corners <= (640, 480)).all()
            kinds.add(code["kind"])
            if code["kind"] != "QR":
                assert ean.is_valid(code["text"])
            assert code["kind"] != "EAN13" or code["text"][0] != "0"
    assert kinds == set(generator.KINDS)


def test_labelled_corners_are_where_the_modules_are() -> None:
    scene = generator.close_up(np.random.default_rng(8), "easy", "QR", version=2)
    code = scene.codes[0]
    assert code.modules is not None
    size = len(code.modules)
    at = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), axis=-1).reshape(-1, 2)
    seen = project(homography(rectangle(size, size), code.corners), at)
    grey = np.asarray(scene.photo, dtype=float)
    levels = grey[seen[:, 1].astype(int), seen[:, 0].astype(int)].reshape(size, size)
    assert levels[code.modules == 0].mean() - levels[code.modules == 1].mean() > 50
    assert ((levels < np.median(levels)) == (code.modules == 1)).mean() > 0.9


def test_unknown_difficulty_is_refused_by_name() -> None:
    with pytest.raises(ApplicationError, match="brutal"):
        photo_bytes(0, 0, "brutal")
