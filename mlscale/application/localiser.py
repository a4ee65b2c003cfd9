"""From the localiser's maps to boxes around codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlscale.application.crops import STRIDE, oriented_box
from mlscale.application.geometry import Points, expand, side_lengths

SHRINK = 0.8
"""The maps mark the inner part of a code, so that neighbours stay apart."""
_THRESHOLD, _HINT = 0.5, 0.05
"""Probability of a cell in a box, and from which it is worth another look."""
_FEWEST_CELLS = 4
_MOST_BOXES = 12


@dataclass(frozen=True)
class Box:
    """Roughly where a code is: ``corners`` (4, 2) in pixels; which of its sides is the top is not known."""

    kind: str  # "1D" or "QR"
    corners: Points
    score: float


def find_boxes(maps: NDArray[np.float32], scale: tuple[float, float]) -> list[Box]:
    """Boxes of the maps (6, rows, columns), best first; ``scale`` is photo pixels per localiser pixel in x and y."""
    boxes: list[Box] = []
    for channel, kind, fold in ((0, "1D", 2), (1, "QR", 4)):
        probability = 1 / (1 + np.exp(-maps[channel].clip(-30, 30)))
        cosine, sine = maps[2 + 2 * channel], maps[3 + 2 * channel]
        for rows, columns in components(probability > _THRESHOLD):
            if len(rows) < _FEWEST_CELLS:
                continue
            weights = probability[rows, columns].astype(np.float64)
            angle = np.arctan2((weights * sine[rows, columns]).sum(), (weights * cosine[rows, columns]).sum()) / fold
            cells = np.stack([columns + 0.5, rows + 0.5], axis=1) * STRIDE
            inner = oriented_box(cells, weights, float(angle))
            corners = expand(inner, (1 / SHRINK - 1) / 2) * np.array(scale)
            boxes.append(Box(kind, corners, float(weights.mean() * np.sqrt(len(rows)))))
    return sorted(boxes, key=lambda box: -box.score)[:_MOST_BOXES]


def unseen(boxes: list[Box], before: list[Box]) -> list[Box]:
    """``boxes`` of another look, without those around QR codes that the look ``before`` had in the same place: the
    grid finder goes from either to the same sheet."""
    return [box for box in boxes if box.kind == "1D" or not any(_is_same(box, other) for other in before)]


def _is_same(box: Box, other: Box) -> bool:
    if box.kind != other.kind:
        return False
    side, other_side = (sum(side_lengths(each.corners)) / 2 for each in (box, other))
    apart = float(np.linalg.norm(box.corners.mean(axis=0) - other.corners.mean(axis=0)))
    return apart < max(side, other_side) / 4 and 2 / 3 < side / other_side < 3 / 2


def hints(maps: NDArray[np.float32], scale: tuple[float, float]) -> list[Points]:
    """Where the maps (6, rows, columns) suggest a code, but hold no box: the lowest and the highest x and y of each
    such place, (2, 2) in photo pixels."""
    places = []
    for channel in (0, 1):
        probability = 1 / (1 + np.exp(-maps[channel].clip(-30, 30)))
        for rows, columns in components(probability > _HINT):
            likely = int((probability[rows, columns] > _THRESHOLD).sum())
            if len(rows) >= _FEWEST_CELLS > likely:
                cells = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
                places.append(cells * STRIDE * np.array(scale))
    return places


def components(mask: NDArray[np.bool_]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The 4-connected regions of ``mask`` as (rows, columns) of their cells: runs joined by union-find."""
    parent: list[int] = []
    runs: list[tuple[int, int, int]] = []

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    above: list[int] = []
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    for row in np.flatnonzero(mask.any(axis=1)):
        current: list[int] = []
        starts, ends = np.flatnonzero(edges[row] == 1), np.flatnonzero(edges[row] == -1)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            index = len(runs)
            runs.append((int(row), start, end))
            parent.append(index)
            current.append(index)
            for other in above:
                other_row, other_start, other_end = runs[other]
                if other_row == row - 1 and other_start < end and start < other_end:
                    parent[root(other)] = root(index)
        above = current
    groups: dict[int, list[tuple[int, int, int]]] = {}
    for index, run in enumerate(runs):
        groups.setdefault(root(index), []).append(run)
    return [
        (
            np.concatenate([np.full(end - start, row) for row, start, end in group]),
            np.concatenate([np.arange(start, end) for _, start, end in group]),
        )
        for group in groups.values()
    ]
