"""Which capital letter does a picture show? A small convolutional network in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors.torch import load_file

WEIGHTS = Path(__file__).with_name("weights.safetensors")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIDE = 32


def network() -> torch.nn.Sequential:
    """Pictures (n, 1, SIDE, SIDE) in 0 to 1; scores (n, letters)."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 5, stride=2, padding=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 5, stride=2, padding=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * (SIDE // 4) ** 2, len(LETTERS)),
    )


def as_tensor(picture: Image.Image) -> torch.Tensor:
    """(1, 1, SIDE, SIDE), ink is 1."""
    grey = picture.convert("L").resize((SIDE, SIDE))
    return 1 - torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)[None, None]


def make() -> Callable[[bytes], dict[str, Any]]:
    """Load what prepare.py trained; return the function that answers a request."""
    net = network().eval()
    net.load_state_dict(load_file(WEIGHTS))

    def answer(body: bytes) -> dict[str, Any]:
        try:
            picture = as_tensor(Image.open(BytesIO(body)))
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError("the body is not a picture") from error
        with torch.inference_mode():
            return {"letter": LETTERS[int(net(picture).argmax())]}

    return answer
