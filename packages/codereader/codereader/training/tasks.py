"""What each network learns: its samples, its loss, and how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codereader import qr
from codereader.nets import STRIP_CLASSES
from codereader.training import samples

Loss = tuple[Tensor, dict[str, float]]


@dataclass(frozen=True)
class Task:
    """Training of one network.

    Attributes:
        sample: (seed, index, batch) to the arrays of one sample.
        loss: (net, tensors of a batch) to the loss and measures, on samples that are new to the net.
        steps: how many batches.
        batch: samples per batch.
        step_s: rough duration of a step on one of two busy cores, s; only for estimating the time left.
        rate: the highest learning rate.
    """

    sample: Callable[[int, int, int], samples.Arrays]
    loss: Callable[[nn.Module, Sequence[Tensor]], Loss]
    steps: int
    batch: int
    step_s: float
    rate: float = 2e-3


def _localiser_loss(net: nn.Module, batch: Sequence[Tensor]) -> Loss:
    photos, target = batch
    photos = torch.cat([photos, photos.flip(3)])
    mirror = torch.tensor([1, 1, 1, -1, 1, -1], dtype=target.dtype).view(1, 6, 1, 1)
    target = torch.cat([target, target.flip(3) * mirror])
    maps = net(photos).float()
    truth = target[:, :2]
    cells = functional.binary_cross_entropy_with_logits(maps[:, :2], truth)
    guess = maps[:, :2].sigmoid()
    overlap, area = ((part).sum((0, 2, 3)) for part in (guess * truth, guess + truth))
    dice = (1 - (2 * overlap + 1) / (area + 1)).sum()
    marked = (truth > 0).repeat_interleave(2, dim=1)
    turned = ((maps[:, 2:] - target[:, 2:]) ** 2 * marked).sum() / (marked.sum() + 1)
    hit = ((maps[:, :2] > 0) & (truth > 0.5)).sum((0, 2, 3))
    overlaps = hit / (((maps[:, :2] > 0) | (truth > 0.5)).sum((0, 2, 3)) + 1)
    measures = {"iou_1d": float(overlaps[0]), "iou_qr": float(overlaps[1]), "angle": float(turned.detach())}
    return 4 * cells + dice + turned, measures


def _strip_loss(net: nn.Module, batch: Sequence[Tensor]) -> Loss:
    strips, target, is_code = (tensor.flatten(0, 1) for tensor in batch)
    logits, code = (part.float() for part in net(strips))
    weight = torch.ones(STRIP_CLASSES)
    weight[-1] = 0.25
    symbols = functional.cross_entropy(logits, target, weight, ignore_index=samples.UNTAUGHT)
    loss = symbols + 0.2 * functional.binary_cross_entropy_with_logits(code, is_code)
    marked = (target != samples.UNTAUGHT) & (target < STRIP_CLASSES - 1)
    measures = {
        "symbols_right": float((logits[:, :-1].argmax(1) == target)[marked].float().mean()),
        "code_right": float(((code > 0) == (is_code > 0.5)).float().mean()),
    }
    return loss, measures


def _grid_loss(net: nn.Module, batch: Sequence[Tensor]) -> Loss:
    crops, points, version = (tensor.flatten(0, 1) for tensor in batch)
    predicted, logits = net(crops)
    is_code = version < qr.MAX_VERSION
    off = functional.smooth_l1_loss(predicted.float()[is_code], points[is_code], beta=0.01)
    loss = 100 * off + 0.5 * functional.cross_entropy(logits.float(), version)
    measures = {
        "points_off": float((predicted.detach().float() - points)[is_code][1::2].abs().mean()),
        "version_right": float((logits.argmax(1) == version)[1::2].float().mean()),
    }
    return loss, measures


def _module_loss(net: nn.Module, batch: Sequence[Tensor]) -> Loss:
    crops, matrix = batch
    logits = net(crops).float()
    loss = functional.binary_cross_entropy_with_logits(logits, matrix)
    return loss, {"modules_right": float(((logits > 0) == (matrix > 0.5)).float().mean())}


def _module_sample(seed: int, index: int, batch: int) -> samples.Arrays:
    version = 1 + int(qr.MAX_VERSION * np.random.default_rng([seed, batch]).random() ** 1.6)  # large ones take longest
    return samples.module_sample(seed, index, version)


# Every network by name; the one that takes longest is trained first.
TASKS = {
    "localiser": Task(samples.localiser_sample, _localiser_loss, 3300, 8, 0.62),
    "grids": Task(lambda seed, index, _: samples.grid_sample(seed, index), _grid_loss, 2000, 32, 1.0),
    "strips": Task(lambda seed, index, _: samples.strip_sample(seed, index), _strip_loss, 6200, 8, 0.24, 4e-3),
    "modules": Task(_module_sample, _module_loss, 4000, 8, 0.38, 4e-3),
}
