"""The training loop: seeded, logs its measures, and resumes from its last checkpoint even after a kill -9."""

from __future__ import annotations

import io
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from codereader import weights
from codereader.errors import ApplicationError
from codereader.nets import NETS
from codereader.training.tasks import TASKS, Task

_SHOWN = 24
Report = Callable[[str, int, int, dict[str, float]], None]
"""(network, step, steps, measures), called after every step."""


class _Samples(Dataset[tuple[Tensor, ...]]):
    def __init__(self, name: str, seed: int, batch: int) -> None:
        self.name, self.seed, self.batch = name, seed, batch

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        arrays = TASKS[self.name].sample(self.seed, index, index // self.batch)
        return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


@dataclass(frozen=True)
class Training:
    """Settings of `train`.

    Attributes:
        folder: checkpoints, metrics.jsonl, a picture of the latest samples and the finished weights go here.
        seed: of all samples and initial weights.
        length: scales the number of steps; 1 trains what is shipped.
        checkpoint_steps: steps between checkpoints.
        bfloat16: autocast to bfloat16; quicker on CPUs that have it.
    """

    folder: Path
    seed: int = 0
    length: float = 1.0
    checkpoint_steps: int = 50
    bfloat16: bool = False

    def steps(self, name: str) -> int:
        """How many batches network ``name`` learns from."""
        return max(2, round(TASKS[name].steps * self.length))

    def is_finished(self, name: str) -> bool:
        """Whether network ``name`` has its weights."""
        return (self.folder / f"{name}.safetensors").exists()


def bfloat16_is_quicker() -> bool:
    """Whether this CPU runs a convolution faster in bfloat16: measured, since no stable flag tells."""
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        conv = nn.Conv2d(32, 32, 3, padding=1).to(kind)
        crop = torch.zeros(8, 32, 48, 48, dtype=kind)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            conv(crop)
            times.append(time.perf_counter() - began)
        seconds[kind] = min(times)
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


def train(training: Training, names: tuple[str, ...] = tuple(TASKS), report: Report | None = None) -> None:
    """Trains the networks ``names`` one after the other in this thread, skipping finished ones.

    Raises:
        ApplicationError: the folder holds a training with other settings.
    """
    claim(training)
    for name in names:
        if not training.is_finished(name):
            train_one(name, training, report or (lambda *_: None))


def claim(training: Training) -> None:
    """Marks the folder as this training's.

    Raises:
        ApplicationError: it holds a training with other settings.
    """
    settings = {"seed": training.seed, "length": training.length}
    training.folder.mkdir(parents=True, exist_ok=True)
    path = training.folder / "training.json"
    if path.exists():
        before = path.read_bytes()
        try:
            same = json.loads(before) == settings
        except ValueError:
            same = False
        if not same:
            raise ApplicationError(
                f"it holds a training with other settings: {' '.join(before.decode(errors='replace').split())}",
                str(training.folder),
                "choose another folder, or the same seed and length",
            )
    weights.write_whole(path, f"{json.dumps(settings)}\n".encode())


def train_one(name: str, training: Training, report: Report) -> None:
    """Trains the network ``name`` in a claimed folder, in this thread; limits torch to one thread."""
    torch.set_num_threads(1)
    task, steps = TASKS[name], training.steps(name)
    torch.manual_seed(training.seed)
    net = NETS[name]().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=task.rate, weight_decay=1e-3)
    checkpoint = training.folder / f"{name}.checkpoint"
    first = _resume(checkpoint, net, optimiser)
    net.train()
    began = time.monotonic()
    with (training.folder / "metrics.jsonl").open("a", buffering=1) as metrics:
        for step, batch in enumerate(_batches(name, task, training, first, steps), start=first):
            for group in optimiser.param_groups:
                group["lr"] = task.rate * rate_at(step / steps)
            with torch.autocast("cpu", torch.bfloat16, enabled=training.bfloat16):
                loss, measures = task.loss(net, batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            measures = {"loss": float(loss.detach()), **measures}
            row = {"net": name, "step": step, "elapsed_s": round(time.monotonic() - began, 2), **measures}
            metrics.write(json.dumps(row) + "\n")
            report(name, step + 1, steps, measures)
            if (step + 1) % training.checkpoint_steps == 0:
                metrics.flush()
                save_samples(training.folder / f"{name}.png", batch[0])
                _save_checkpoint(checkpoint, net, optimiser, step + 1)
    weights.save(net, training.folder / f"{name}.safetensors")
    checkpoint.unlink(missing_ok=True)


def rate_at(progress: float) -> float:
    """Share of the highest learning rate at ``progress`` 0 to 1: a linear rise, then half a cosine."""
    rise = 0.05
    return (
        max(progress / rise, 0.02)
        if progress < rise
        else 0.5 + 0.5 * math.cos(math.pi * (progress - rise) / (1 - rise))
    )


def _batches(name: str, task: Task, training: Training, first: int, steps: int) -> Iterator[list[Tensor]]:
    indices = [list(range(step * task.batch, (step + 1) * task.batch)) for step in range(first, steps)]
    yield from DataLoader(_Samples(name, training.seed, task.batch), batch_sampler=indices)


def save_samples(path: Path, inputs: Tensor) -> None:
    """The first inputs (..., height, width) of a batch as one picture: what the network currently learns from."""
    crops = inputs.flatten(0, -3)[:_SHOWN].numpy()
    tiles = [np.pad(np.clip(128 + 50 * crop, 0, 255).astype(np.uint8), 2) for crop in crops]
    columns = max(1, round(math.sqrt(len(tiles) * tiles[0].shape[0] / tiles[0].shape[1])))
    rows = [tiles[first : first + columns] for first in range(0, len(tiles) - len(tiles) % columns, columns)]
    buffer = io.BytesIO()
    Image.fromarray(np.vstack([np.hstack(row) for row in rows])).save(buffer, "PNG")
    weights.write_whole(path, buffer.getbuffer())


def _save_checkpoint(path: Path, net: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    buffer = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, buffer)
    weights.write_whole(path, buffer.getbuffer())


def _resume(path: Path, net: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])
    except (RuntimeError, EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError):
        raise ApplicationError("no checkpoint of this network", str(path), "delete it to start anew") from None
