"""The four networks. Inputs are grey crops (batch, 1, height, width), each scaled to mean 0 and deviation 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codereader.qr import MAX_VERSION

LOCALISER_MAPS = 6
# 40 symbols (set x digit, see `ean`) and none.
STRIP_CLASSES = 41
# Dilations along a strip, so that a symbol is classified from two thirds of the code to either side: its neighbours
# alone don't tell whether it begins with a bar or a space, but the guards do.
_ALONG = (1, 3, 9, 27, 9, 1)


class _Conv(nn.Sequential):
    """Convolution, batch norm, ReLU; same size for stride 1."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = _Conv(channels, channels, dilation=dilation)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


class Localiser(nn.Module):
    """Where codes are, a map of cells of 4 pixels.

    Input (b, 1, h, w) with h and w multiples of 16; output (b, 6, h / 4, w / 4): logits of 1-D and of QR, then cos and
    sin of twice the 1-D codes' angle and of four times the QR codes' angle.
    """

    def __init__(self) -> None:
        super().__init__()
        self.entry = _Conv(1, 12, 2)
        self.quarter = nn.Sequential(_Conv(12, 24, 2), _Conv(24, 24))
        self.eighth = nn.Sequential(_Conv(24, 40, 2), _Residual(40))
        self.deep = nn.Sequential(_Conv(40, 64, 2), *(_Residual(64, dilation) for dilation in (1, 2, 4, 6)))
        self.lift_deep = nn.Conv2d(64, 40, 1)
        self.merge_eighth = _Conv(40, 24)
        self.merge_quarter = _Conv(24, 24)
        self.head = nn.Conv2d(24, LOCALISER_MAPS, 1)

    def forward(self, x: Tensor) -> Tensor:
        quarter = self.quarter(self.entry(x))
        eighth = self.eighth(quarter)
        deep = self.lift_deep(self.deep(eighth))
        eighth = self.merge_eighth(eighth + nn.functional.interpolate(deep, scale_factor=2.0))
        quarter = self.merge_quarter(quarter + nn.functional.interpolate(eighth, scale_factor=2.0))
        maps: Tensor = self.head(quarter)
        return maps


class _Along(nn.Module):
    """Residual convolution along the strip."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (1, 5), padding=(0, 2 * dilation), dilation=(1, dilation), bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


class StripReader(nn.Module):
    """The symbol centred at each frame of a strip, and whether it shows a code at all: (b, 1, 16, w) to logits
    (b, 41, w / 2) and (b,)."""

    def __init__(self, channels: int = 80) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for outputs, stride in ((16, (2, 1)), (32, (2, 2)), (48, (2, 1)), (channels, (2, 1))):
            layers += [
                nn.Conv2d(inputs, outputs, (3, 5), stride, padding=(1, 2), bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        self.columns = nn.Sequential(*layers)
        self.along = nn.Sequential(*(_Along(channels, dilation) for dilation in _ALONG))
        self.head = nn.Conv2d(channels, STRIP_CLASSES, 1)
        self.code = nn.Sequential(nn.Linear(2 * channels, 32), nn.ReLU(inplace=True), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.along(self.columns(x))
        logits: Tensor = self.head(features)
        flat = features.squeeze(2)
        return logits.squeeze(2), self.code(torch.cat([flat.mean(2), flat.amax(2)], dim=1)).squeeze(1)


class GridFinder(nn.Module):
    """Sheet and version of a QR code in a crop that is roughly aligned with it.

    Input (b, 1, 224, 224); outputs: how far each of the nine points of `sheets.lattice` is from where the crop assumes
    it, (b, 18) in shares of the assumed side, and logits of the versions and of no code at all, (b, `qr.MAX_VERSION` +
    1).
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            _Conv(1, 16, 2), _Conv(16, 32, 2), _Residual(32), _Conv(32, 48, 2), _Residual(48), _Conv(48, 64, 2),
            _Residual(64), nn.Conv2d(64, 16, 1), nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Sequential(nn.Linear(16 * 14**2, 192), nn.ReLU(inplace=True))
        self.points = nn.Linear(192, 18)
        self.version = nn.Linear(192, MAX_VERSION + 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(self.trunk(x))
        return self.points(hidden) * 0.1, self.version(hidden)


class ModuleReader(nn.Module):
    """Dark or light, module by module: (b, 1, 4 (n + 4), 4 (n + 4)), two modules of margin, to logits (b, n, n)."""

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        self.net = nn.Sequential(
            _Conv(1, 24, 2), _Conv(24, channels, 2), _Residual(channels), _Residual(channels, 2), _Residual(channels),
            nn.Conv2d(channels, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits[:, 0, 2:-2, 2:-2]


# Every network by the name of its weights file.
NETS: dict[str, type[nn.Module]] = {
    "localiser": Localiser,
    "strips": StripReader,
    "grids": GridFinder,
    "modules": ModuleReader,
}
