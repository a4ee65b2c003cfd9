"""``python -m letters.prepare FOLDER``: train the model in seconds, and write pictures to send into FOLDER.

The data are letters in the fonts that the package matplotlib ships, moved, turned and blurred. Those that are sent
are drawn anew, so the model has never seen them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from safetensors.torch import save_file

from letters.model import LETTERS, WEIGHTS, as_tensor, network

FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"
TRAINED_ON = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif")
SENT = "DejaVuSans"
SIDE_PX, ROUNDS, STEPS = 96, 6, 200


def picture(letter: str, font: str, rng: np.random.Generator) -> Image.Image:
    """A letter in a random place, size and angle."""
    image = Image.new("L", (SIDE_PX, SIDE_PX), 255)
    middle = SIDE_PX / 2 + rng.uniform(-6, 6, 2)
    face = ImageFont.truetype(str(FONTS / f"{font}.ttf"), int(rng.integers(56, 72)))
    ImageDraw.Draw(image).text((middle[0], middle[1]), letter, font=face, fill=0, anchor="mm")
    return image.rotate(rng.uniform(-8, 8), fillcolor=255).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))


def train() -> None:
    """A few seconds on one core."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    cases = [(letter, font) for letter in LETTERS for font in TRAINED_ON for _ in range(ROUNDS)]
    pictures = torch.cat([as_tensor(picture(letter, font, rng)) for letter, font in cases])
    wanted = torch.tensor([LETTERS.index(letter) for letter, _ in cases])
    net = network()
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(STEPS):
        batch = torch.randint(len(cases), (64,))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(pictures[batch]), wanted[batch]).backward()
        optimiser.step()
    save_file(net.state_dict(), WEIGHTS)
    WEIGHTS.chmod(0o644)  # safetensors lets nobody else read it, and in a container the model runs as another user


def write_files(folder: Path) -> None:
    """A new picture of every letter, and labels.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, labels = np.random.default_rng(1), []
    for letter in LETTERS:
        picture(letter, SENT, rng).save(folder / f"{letter}.png")
        labels.append(json.dumps({"file": f"{letter}.png", "answer": {"letter": letter}}))
    (folder / "labels.jsonl").write_text("\n".join(labels) + "\n")


if __name__ == "__main__":
    train()
    write_files(Path(sys.argv[1]))
