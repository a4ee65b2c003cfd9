"""The command: one line for each photo or problem, whatever the file and wherever the output goes."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from codereader import cli
from codereader.images import open_photo

TEXT = "\u65e5\u672c \xe9 \U0001f600"


class Full(io.StringIO):
    """Output to a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that reads `TEXT` in what is no photo."""

    def decode(body: bytes) -> dict[str, Any]:
        if body != b"read me":
            open_photo(body)
        return {"codes": [{"kind": "QR", "text": TEXT}]}

    monkeypatch.setattr("codereader.decoder.make_decoder", lambda *_: decode)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Any:
    monkeypatch.setattr(sys, "argv", ["codereader", *map(str, arguments)])
    with pytest.raises(SystemExit) as raised:
        cli.main()
    return raised.value.code


def test_a_file_larger_than_memory_is_refused_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    huge, good = tmp_path / "huge.jpg", tmp_path / "good.jpg"
    huge.touch()
    os.truncate(huge, 2**40)  # takes no room
    good.write_bytes(b"read me")
    assert run(monkeypatch, "decode", huge, tmp_path, good) == 2
    out, err = capsys.readouterr()
    assert [line.partition(": ")[2] for line in err.splitlines()] == [
        "the photo has more than 10000000 bytes (give a readable photo)",
        "Is a directory (give a readable photo)",
    ]
    assert json.loads(out)["file"] == str(good)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_answers_are_json_in_any_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    photo = tmp_path / os.fsdecode(b"not utf-8 \xff.jpg")
    photo.write_bytes(b"read me")
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert run(monkeypatch, "decode", photo) == 0
    assert json.loads(out.buffer.getvalue()) == {"file": str(photo), "codes": [{"kind": "QR", "text": TEXT}]}  # type: ignore[attr-defined]


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"read me")
    monkeypatch.setattr(sys, "stdout", Full())
    assert run(monkeypatch, "decode", photo) == 2
    assert capsys.readouterr().err.splitlines() == [
        "codereader: the output: No space left on device (choose a place that can be written)"
    ]
