"""data/protocol.json: written once, never moved after the data it judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlscale.runs import MlscaleError
from mlscale_experiment.protocol import Bodies, read_protocol, write_protocol
from mlscale_paper.protocol import default_protocol

PROTOCOL = default_protocol(Bodies(folder="photos/load", count=3))


def test_written_and_read_back(tmp_path: Path) -> None:
    write_protocol(tmp_path / "protocol.json", PROTOCOL, tmp_path / "runs")
    assert read_protocol(tmp_path / "protocol.json") == PROTOCOL
    assert PROTOCOL.sha256() == read_protocol(tmp_path / "protocol.json").sha256()  # type: ignore[union-attr]
    assert [file.name for file in tmp_path.iterdir()] == ["protocol.json"]


def test_none_yet(tmp_path: Path) -> None:
    assert read_protocol(tmp_path / "protocol.json") is None


@pytest.mark.parametrize("cell", ["core", "open", "sensitivity"])
def test_refused_once_blocks_exist(tmp_path: Path, cell: str) -> None:
    run = tmp_path / "runs" / cell / "block-01" / "1-torchserve" / "attempt-0"
    run.mkdir(parents=True)
    write_protocol(tmp_path / "protocol.json", PROTOCOL, tmp_path / "runs")
    (run / "run.json").write_text("{}")
    moved = PROTOCOL.model_copy(update={"level_s": 9.0})
    with pytest.raises(MlscaleError, match="not moved afterwards"):
        write_protocol(tmp_path / "protocol.json", moved, tmp_path / "runs")
    assert read_protocol(tmp_path / "protocol.json") == PROTOCOL


def test_a_quick_look_does_not_bind_the_protocol(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quick" / "core" / "block-01" / "1-torchserve" / "attempt-0"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    write_protocol(tmp_path / "protocol.json", PROTOCOL, tmp_path / "runs")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 2}', b"nonsense", b'{"made_at": "\xff"}'])
def test_a_broken_protocol_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "protocol.json").write_bytes(content)
    with pytest.raises(MlscaleError, match=r"protocol\.json: broken") as caught:
        read_protocol(tmp_path / "protocol.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["../photos", "photos/../..", "/photos", ".", ""])
def test_bodies_lie_below_their_protocol(tmp_path: Path, folder: str) -> None:
    made = PROTOCOL.model_copy(update={"bodies": PROTOCOL.bodies.model_copy(update={"folder": folder})})
    (tmp_path / "protocol.json").write_text(made.model_dump_json())
    with pytest.raises(MlscaleError, match=r"bodies.folder: name a folder below"):
        read_protocol(tmp_path / "protocol.json")
