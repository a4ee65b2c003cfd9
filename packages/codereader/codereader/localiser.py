"""From the localiser's maps to boxes around codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codereader.crops import STRIDE, oriented_box
from codereader.geometry import Points, expand, side_lengths

# The maps mark the inner part of a code, so that neighbours stay apart.
SHRINK = 0.8
_THRESHOLD, _HINT = 0.5, 0.05
"""Least probability of a cell in a box, and of a cell worth another look."""
_FEWEST_CELLS, _LEAST_MEAN = 4, 0.65
"""Least cells of a box and least mean probability: below that a box hardly ever holds a code (benchmarks/dismissal.py:
2 of 1195 codes are lost and 22 % of the other boxes dropped), and a closer look sees more."""
_MOST_BOXES = 12


@dataclass(frozen=True)
class Box:
    """Roughly where a code is: ``corners`` (4, 2) in pixels; which side is the top is unknown."""

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
            weights = probability[rows, columns].astype(np.float64)
            if not _is_sure(weights):
                continue
            angle = np.arctan2((weights * sine[rows, columns]).sum(), (weights * cosine[rows, columns]).sum()) / fold
            cells = np.stack([columns + 0.5, rows + 0.5], axis=1) * STRIDE
            inner = oriented_box(cells, weights, float(angle))
            corners = expand(inner, (1 / SHRINK - 1) / 2) * np.array(scale)
            boxes.append(Box(kind, corners, float(weights.mean() * np.sqrt(len(rows)))))
    return sorted(boxes, key=lambda box: -box.score)[:_MOST_BOXES]


def _is_sure(probabilities: NDArray[np.float64]) -> bool:
    """Whether cells of these probabilities make a box."""
    return len(probabilities) >= _FEWEST_CELLS and float(probabilities.mean()) > _LEAST_MEAN


def unseen(boxes: list[Box], before: list[Box]) -> list[Box]:
    """``boxes`` of another look, without QR boxes that the look ``before`` had in the same place: the grid finder
    arrives at the same sheet from either."""
    return [box for box in boxes if box.kind == "1D" or not any(_is_same(box, other) for other in before)]


def _is_same(box: Box, other: Box) -> bool:
    if box.kind != other.kind:
        return False
    side, other_side = (sum(side_lengths(item.corners)) / 2 for item in (box, other))
    distance = float(np.linalg.norm(box.corners.mean(axis=0) - other.corners.mean(axis=0)))
    return distance < max(side, other_side) / 4 and 2 / 3 < side / other_side < 3 / 2


def hints(maps: NDArray[np.float32], scale: tuple[float, float]) -> list[Points]:
    """Places where the maps (6, rows, columns) suggest a code but hold no box: lowest and highest x and y of each,
    (2, 2) in photo pixels."""
    places = []
    for channel in (0, 1):
        probability = 1 / (1 + np.exp(-maps[channel].clip(-30, 30)))
        for rows, columns in components(probability > _HINT):
            weights = probability[rows, columns].astype(np.float64)
            if len(rows) >= _FEWEST_CELLS and not _is_sure(weights[weights > _THRESHOLD]):
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

    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (rows, starts), (_, ends) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    first_above = 0
    for index, run in enumerate(zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True)):
        row, start, end = run
        runs.append(run)
        parent.append(index)
        while runs[first_above][0] < row - 1:
            first_above += 1
        for other, (other_row, other_start, other_end) in enumerate(runs[first_above:index], start=first_above):
            if other_row == row - 1 and other_start < end and start < other_end:
                parent[root(other)] = root(index)
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
