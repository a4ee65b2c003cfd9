"""The partitioned application answers as the whole one does, and what its components say to each other is checked."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from codereader import hop
from codereader.decoder import DecodedCode, Decoder, make_float32_decoder
from codereader.difficulties import DIFFICULTIES
from codereader.errors import BadPhoto
from codereader.geometry import rectangle
from codereader.localiser import Box
from codereader.partition import NETS, READERS, Localiser, Readers, make_localiser, make_readers
from codereader.photos import photo_bytes


@pytest.fixture(scope="module")
def whole() -> Decoder:
    return make_float32_decoder()


@pytest.fixture(scope="module")
def localiser() -> Localiser:
    return make_localiser()


@pytest.fixture(scope="module")
def readers() -> Readers:
    return make_readers()


def _answer(localiser: Localiser, readers: Readers, body: bytes) -> tuple[Mapping[str, Any], list[bytes]]:
    """The partitioned application's answer and the jobs that were sent; everything crosses as bytes."""
    script, jobs = localiser(body), []
    reply: Mapping[str, Any] | None = None
    while True:
        try:
            component, job = script.send(reply)  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value, jobs
        assert component == READERS
        jobs.append(job)
        reply = json.loads(json.dumps(readers(job)))


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_answers_equal_the_whole_ones_byte_for_byte(
    whole: Decoder, localiser: Localiser, readers: Readers, difficulty: str
) -> None:
    sizes = ((240, 180), (640, 480), (1280, 960), (480, 640), (2400, 1800))
    calls, codes = [], 0
    for index in range(8):
        width, height = sizes[index % len(sizes)]
        body, _ = photo_bytes(7, index, difficulty, width=width, height=height)
        expected = whole(body)
        answer, jobs = _answer(localiser, readers, body)
        assert json.dumps(answer) == json.dumps(expected), f"{difficulty} {index}"
        calls.append(len(jobs))
        codes += len(expected["codes"])
    assert codes > 5, "there was something to answer"
    assert max(calls) <= 2
    if difficulty != "easy":
        assert 2 in calls, "a second look was among them"


def test_a_photo_without_codes_needs_no_readers(localiser: Localiser, readers: Readers) -> None:
    blank = encoded(Image.new("L", (64, 64), 255), "PNG")
    assert _answer(localiser, readers, blank) == ({"codes": []}, [])


def test_each_component_holds_its_own_networks_alone(localiser: Localiser, readers: Readers) -> None:
    from codereader.nets import NETS as ALL

    assert {*NETS["localiser"]} | {*NETS["readers"]} == {*ALL}
    assert not {*NETS["localiser"]} & {*NETS["readers"]}
    assert (set(localiser._decoder._nets), set(readers._decoder._nets)) == ({*NETS["localiser"]}, {*NETS["readers"]})


def test_a_bad_photo_is_the_senders_fault(localiser: Localiser) -> None:
    with pytest.raises(BadPhoto, match="empty"):
        next(localiser(b""))


_JOB = hop.Job(
    (Box("1D", rectangle(10, 5) / 3, 0.1 + 0.2), Box("QR", rectangle(9, 9, 1 / 7, 2), 2.5)),
    (DecodedCode("EAN8", "96385074", rectangle(1e-9, 7.7)), DecodedCode("QR", 'ü"\n', rectangle(1, 1))),
    b"\xff\xd8 a photo \x00",
)


def _same(one: hop.Job, other: hop.Job) -> bool:
    return (
        one.photo == other.photo
        and [(b.kind, b.score, b.corners.tobytes()) for b in one.boxes]
        == [(b.kind, b.score, b.corners.tobytes()) for b in other.boxes]
        and [(c.kind, c.text, c.corners.tobytes()) for c in one.codes]
        == [(c.kind, c.text, c.corners.tobytes()) for c in other.codes]
    )


def test_a_job_survives_exactly() -> None:
    assert _same(hop.unpack(hop.pack(_JOB)), _JOB)
    found = [None, *_JOB.codes]
    back = hop.readings(json.loads(json.dumps(hop.readings_as_json(found))), 3)
    assert back[0] is None
    assert _same(replace(_JOB, codes=tuple(code for code in back if code)), _JOB)


def test_a_job_is_hardly_larger_than_its_photo() -> None:
    assert len(hop.pack(_JOB)) - len(_JOB.photo) < 1000


def _job_of(head: bytes, version: int = hop.VERSION, length: int | None = None) -> bytes:
    return struct.pack(">4sHI", b"MLSH", version, len(head) if length is None else length) + head


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "shorter than a header"),
        (b"\xff\xd8\xff\xe0 a photo, not a job", "magic number"),
        (_job_of(b'{"boxes":[],"codes":[]}', version=2), "version 2"),
        (_job_of(b"{}", length=99), "truncated"),
        (_job_of(b"{}", length=2**32 - 1), "truncated"),
        (_job_of(b"not JSON"), "head is malformed"),
        (_job_of(b"\xff\xfe"), "head is malformed"),
        (_job_of(b"[" * 100_000), "head is malformed"),
        (_job_of(b"[]"), "head is malformed"),
        (_job_of(b'{"boxes":[]}'), "codes"),
        (_job_of(b'{"boxes":[["1D",1,[1,2,3]]],"codes":[]}'), "four corners"),
        (_job_of(b'{"boxes":[["3D",1,[1,2,3,4,5,6,7,8]]],"codes":[]}'), "3D"),
        (_job_of(b'{"boxes":[[["1D"],1,[1,2,3,4,5,6,7,8]]],"codes":[]}'), "head is malformed"),
        (_job_of(b'{"boxes":[["1D",NaN,[1,2,3,4,5,6,7,8]]],"codes":[]}'), "finite"),
        (_job_of(b'{"boxes":[["1D",1,[1,2,3,4,5,6,7,"8"]]],"codes":[]}'), "finite"),
        (_job_of(b'{"boxes":[["1D",1,[1,2,3,4,5,6,7,1e12]]],"codes":[]}'), "far outside"),
        (_job_of(b'{"boxes":[],"codes":[["QR",7,[1,2,3,4,5,6,7,8]]]}'), "must be a string"),
    ],
)
def test_malformed_jobs_are_refused_with_a_reason(readers: Readers, body: bytes, reason: str) -> None:
    with pytest.raises(hop.BadHop, match=reason) as raised:
        readers(body)
    assert raised.value.http_status == 400
    assert raised.value.reason


def test_every_cut_of_a_job_is_refused_or_has_a_shorter_photo() -> None:
    whole = hop.pack(_JOB)
    for length in range(len(whole)):
        try:
            job = hop.unpack(whole[:length])
        except hop.BadHop:
            continue
        assert _same(replace(job, photo=_JOB.photo), _JOB)
        assert _JOB.photo.startswith(job.photo)


def test_boxes_that_are_nowhere_read_nothing(readers: Readers) -> None:
    body, _ = photo_bytes(7, 0, "easy")
    wild = [np.zeros((4, 2)), rectangle(1e5, 1e5), rectangle(-5, 3, -9e4, 4), rectangle(640, 1e-9)]
    boxes = tuple(Box(kind, corners, 1.0) for corners in wild for kind in ("1D", "QR"))
    answer = readers(hop.pack(hop.Job(boxes, (), body)))
    assert answer == {"version": hop.VERSION, "readings": [None] * len(boxes)}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"version": 2, "readings": []},
        {"version": 1},
        {"version": 1, "readings": None},
        {"version": 1, "readings": [1]},
        {"version": 1, "readings": [["EAN13", "4006381333931", [0.0] * 7]]},
        {"version": 1, "readings": [["EAN13", 4006381333931, [0.0] * 8]]},
        {"version": 1, "readings": [["EAN99", "4006381333931", [0.0] * 8]]},
        {"version": 1, "readings": [None] * 99},
    ],
)
def test_a_readers_answer_that_makes_no_sense_is_never_an_answer(localiser: Localiser, answer: Any) -> None:
    body, _ = photo_bytes(7, 1, "easy", codes=1)
    script = localiser(body)
    next(script)
    with pytest.raises(hop.BadReadings) as raised:
        script.send(answer)
    assert raised.value.http_status == 503
