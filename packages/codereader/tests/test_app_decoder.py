"""The decoder on generated photos: what it reads, that it makes nothing up, and what it shows to zxing-cpp."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from codereader import crops, evaluation, generator, nets, qr, weights
from codereader.decoder import DEVICE_VARIABLE, STAGES, Decoder, make_decoder, make_float32_decoder, shows_ends
from codereader.errors import ApplicationError, BadPhoto, BadWeights
from codereader.geometry import homography, rectangle
from codereader.images import Photo, open_photo
from codereader.localiser import Box
from codereader.photos import all_right, choose_load_photos, photo_bytes
from codereader.strips import BarsRead, dark_on_light, read_bars

PHOTOS = 40
MEMORY = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
def most_bytes():
    return [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0] * 1024
torch_alone = most_bytes()
from codereader.decoder import make_decoder
decoder = make_decoder()
for path in Path(sys.argv[1]).iterdir():
    decoder(path.read_bytes())
print(most_bytes() - torch_alone)
"""
# Photos are a pure function of their arguments: several tests choose among the same ones.
drawn = functools.cache(photo_bytes)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return make_decoder()


@pytest.fixture(scope="module")
def photos() -> list[tuple[bytes, dict[str, Any]]]:
    return list(evaluation.validation("easy", PHOTOS))


def noise(names: Iterator[str] | list[str], seed: int) -> dict[str, torch.nn.Module]:
    torch.manual_seed(seed)
    made = {}
    for name in names:
        net = nets.NETS[name]()
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn_like(tensor).abs() if tensor.ndim == 1 else torch.randn_like(tensor) * 0.2)
        made[name] = net.eval()
    return made


def test_easy_photos_are_read_and_nothing_is_made_up(
    decoder: Decoder, photos: list[tuple[bytes, dict[str, Any]]]
) -> None:
    rates = evaluation.measure(decoder, photos)
    assert rates.codes.total() > PHOTOS
    assert rates.share >= 0.9
    assert rates.wrong == []
    assert set(rates.read) == {"EAN13", "EAN8", "UPCA", "UPCE", "QR"}


def test_corners_are_where_the_codes_are(decoder: Decoder, photos: list[tuple[bytes, dict[str, Any]]]) -> None:
    offs = []
    for body, label in photos[:12]:
        truth = {(code["kind"], code["text"]): np.array(code["corners"]) for code in label["codes"]}
        for code in decoder(body)["codes"]:
            corners = truth[code["kind"], code["text"]]
            offs.append(np.linalg.norm(np.array(code["corners"]) - corners, axis=1).max() / np.ptp(corners))
    assert len(offs) > 6
    assert np.median(offs) < 0.1


def test_with_noise_for_weights_nothing_is_read(photos: list[tuple[bytes, dict[str, Any]]]) -> None:
    for seed in range(2):
        blind = Decoder(noise(list(nets.NETS), seed))
        assert all(blind(body)["codes"] == [] for body, _ in photos[:2])


@pytest.mark.parametrize("spared", ["strips", "grids and modules", "localiser"])
def test_every_reader_is_needed(spared: str, photos: list[tuple[bytes, dict[str, Any]]]) -> None:
    # The localiser is real, so that the readers do get the codes: a reader of noise must still read none of its kind.
    real = {name: weights.load(name) for name in nets.NETS}
    blind = Decoder({**noise(list(nets.NETS), 3), "localiser": real["localiser"], **{
        name: real[name] for name in spared.split(" and ")
    }})  # fmt: skip
    kinds = {code["kind"] for body, _ in photos[:10] for code in blind(body)["codes"]}
    readable = {"strips": {"EAN13", "EAN8", "UPCA", "UPCE"}, "grids and modules": {"QR"}, "localiser": set()}[spared]
    assert kinds <= readable
    assert bool(kinds) == bool(readable)


def test_a_upc_e_whose_light_is_taken_for_dark_is_no_other_number() -> None:
    """Exchanged and upside down, it has the digits of another one."""
    net = weights.load("strips")
    for seed in range(20):
        code = (scene := generator.close_up(np.random.default_rng(seed), "easy", "UPCE")).codes[0]
        strips = np.stack([crops.strip(scene.photo, quad) for quad in crops.strip_quads(code.corners)])
        for seen in (dark_on_light(strips), -dark_on_light(strips)):
            with torch.inference_mode():
                bars = read_bars(seen, *(part.numpy() for part in net(torch.from_numpy(seen[:, None])))).bars
            assert bars is None or bars.text == code.text


def test_codes_are_told_from_what_looks_like_one() -> None:
    net = weights.load("strips")
    likely: dict[str, list[float]] = {"EAN8": [], "decoy": []}
    for kind, found in likely.items():
        for seed in range(30):
            code = (scene := generator.close_up(np.random.default_rng(seed), "easy", kind)).codes[0]
            strips = np.stack([crops.strip(scene.photo, quad) for quad in crops.strip_quads(code.corners)])
            with torch.inference_mode():
                _, logits = net(torch.from_numpy(dark_on_light(strips)[:, None]))
            found.append(float(logits.mean()))
    assert min(likely["EAN8"]) > 0
    assert np.mean(np.array(likely["decoy"]) < -2) > 0.7


def test_zxing_sees_clean_matrices_alone(
    decoder: Decoder, photos: list[tuple[bytes, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import zxingcpp

    seen: list[np.ndarray] = []
    real = zxingcpp.read_barcodes

    def spy(picture: np.ndarray, **options: object) -> object:
        seen.append(np.array(picture))
        return real(picture, **options)

    monkeypatch.setattr(zxingcpp, "read_barcodes", spy)
    monkeypatch.setattr(zxingcpp, "read_barcode", None)
    read = [code for body, _ in photos[:20] for code in decoder(body)["codes"] if code["kind"] == "QR"]
    assert len(seen) >= len(read) > 3
    for picture in seen:
        side = picture.shape[0] // 3 - 8
        assert picture.shape == (3 * (side + 8),) * 2
        assert side in {qr.size_of(version) for version in range(1, qr.MAX_VERSION + 1)}
        assert set(np.unique(picture)) == {0, 255}
        modules = (picture[::3, ::3] == 0).astype(np.uint8)
        assert not modules[:4].any()
        assert not modules[:, -4:].any()
        assert (picture == qr.render(modules[4:-4, 4:-4])).all()


def test_answers_are_json_and_the_same_again(decoder: Decoder, photos: list[tuple[bytes, dict[str, Any]]]) -> None:
    body = photos[0][0]
    assert decoder(body) == decoder(body) == json.loads(json.dumps(decoder(body)))
    assert torch.get_num_threads() == 1


def test_explanation_shows_every_stage(decoder: Decoder, photos: list[tuple[bytes, dict[str, Any]]]) -> None:
    body, label = next((body, label) for body, label in photos if all_right(decoder(body), label) and label["codes"])
    explained = decoder.explain(body)
    assert len(explained.codes) == len(label["codes"])
    assert set(explained.cpu_s) == set(STAGES)
    assert explained.cpu_s["localise"] > 0
    assert all(reading.crops for reading in explained.readings)
    assert {reading.got_to for reading in explained.readings if reading.code} == {"verified"}


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (40, 30), (3000, 1000)])
def test_empty_photos_of_any_size_have_no_codes(decoder: Decoder, size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("L", size, 90).save(buffer, "PNG")
    assert decoder(buffer.getvalue()) == {"codes": []}


def test_bad_body_is_a_bad_photo_and_the_next_one_is_read(
    decoder: Decoder, photos: list[tuple[bytes, dict[str, Any]]]
) -> None:
    before = decoder(photos[0][0])
    for body in (b"", b"junk", photos[0][0][:2000]):
        with pytest.raises(BadPhoto):
            decoder(body)
    assert decoder(photos[0][0]) == before


def test_a_box_too_thin_for_a_plane_is_not_read(decoder: Decoder, photos: list[tuple[bytes, dict[str, Any]]]) -> None:
    photo = open_photo(photos[0][0])
    thin = np.array([[10.0, 10.0], [60.0, 10.0], [60.0, 10.0], [10.0, 10.0]])
    for kind in ("1D", "QR"):
        reading = decoder._read(photo, Box(kind, thin, 1.0), dict.fromkeys(STAGES, 0.0))
        assert reading.code is None


def test_a_upc_e_needs_room_beside_it() -> None:
    """Else the left half of an EAN-13 that the frame cuts would be one."""
    photo = Photo(Image.new("L", (300, 200)), (300, 200))
    bars = BarsRead("UPCE", "01234565", (0.1, 0.9), turned=False, sure=(1.0, 1.0), alone=False)
    whole, cut = (homography(rectangle(1, 1), rectangle(250, 80, left, 50)) for left in (25, 60))
    assert shows_ends(photo, whole, bars)
    assert not shows_ends(photo, cut, bars)


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("abacus", "meta", "hpu"):
        with pytest.raises(ApplicationError, match=rf"device '{device}'.*choose cpu"):
            make_decoder(device=device)
    monkeypatch.setenv(DEVICE_VARIABLE, "cuda:99")
    with pytest.raises(ApplicationError, match="cuda:99"):
        make_decoder()


@pytest.mark.parametrize("has_it", [True, False])
def test_what_is_measured_calculates_alike_on_every_cpu(monkeypatch: pytest.MonkeyPatch, has_it: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it})

    def kinds(decoder: Decoder) -> set[torch.dtype]:
        return {parameter.dtype for net in decoder._nets.values() for parameter in net.parameters()}

    assert kinds(make_decoder()) == {torch.bfloat16 if has_it else torch.float32}
    assert kinds(make_float32_decoder()) == {torch.float32}


def test_a_gpu_gives_the_answers_of_the_cpu(decoder: Decoder, photos: list[tuple[bytes, dict[str, Any]]]) -> None:
    """Where there is no GPU the device is still moved to and back from: torch's other device of every machine, the CPU
    by its index. A GPU calculates in 32 bits what the CPU may calculate in 16."""
    other = make_decoder(device="cuda" if torch.cuda.is_available() else "cpu:0")
    apart_px = 3.0 if torch.cuda.is_available() else 1.0
    for body, _ in photos[:10]:
        want, got = decoder(body)["codes"], other(body)["codes"]
        assert [(code["kind"], code["text"]) for code in got] == [(code["kind"], code["text"]) for code in want]
        for one, two in zip(want, got, strict=True):
            np.testing.assert_allclose(one["corners"], two["corners"], atol=apart_px)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
@pytest.mark.parametrize("photo_sizes", [12, pytest.param(50, marks=pytest.mark.proof)])
def test_a_replica_never_holds_much_more_than_torch(tmp_path: Path, photo_sizes: int) -> None:
    """Every photo has another size: most of what grows grows with those."""
    sizes = np.random.default_rng(0).integers([640, 480], [1300, 1000], (photo_sizes, 2)).tolist()
    for index, (width, height) in enumerate(sizes):
        body, _ = photo_bytes(0, index, "hard", width=width, height=height, codes=3)
        (tmp_path / f"{index}").write_bytes(body)
    grown = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 150 * 2**20


def test_the_weights_are_small() -> None:
    files = [weights.weights_folder() / f"{name}.safetensors" for name in nets.NETS]
    assert sum(file.stat().st_size for file in files) <= 8_000_000


def test_missing_corrupt_and_foreign_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadWeights, match=r"no weights.*codereader train"):
        make_decoder(tmp_path)
    with pytest.raises(BadWeights, match="too long"):
        make_decoder(tmp_path / ("x" * 300))
    path = tmp_path / "modules.safetensors"
    path.write_bytes(b"not weights at all")
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path))
    with pytest.raises(BadWeights, match="can't be read"):
        weights.load("modules")
    weights.save(nets.NETS["grids"](), path)
    with pytest.raises(BadWeights, match="another architecture"):
        weights.load("modules")


def test_folded_norms_give_the_same_answers() -> None:
    net = noise(["strips"], 1)["strips"]
    crop = torch.randn(2, 1, 16, 384)
    with torch.inference_mode():
        want = net(crop)
        got = weights.fused(net)(crop)
    for ours, whole in zip(got, want, strict=True):
        assert torch.allclose(ours, whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))


def test_load_photos_are_read_right_and_carry_their_cost(decoder: Decoder, tmp_path: Path) -> None:
    choose_load_photos(tmp_path, 5, 2, (0.0, 10.0), decode=decoder)
    labels = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert len(labels) == 2
    for label in labels:
        assert label["codes"]
        assert label["cpu_s"] > 0
        assert all_right(decoder((tmp_path / label["file"]).read_bytes()), label)
    with pytest.raises(ApplicationError, match="0 of 1"):
        choose_load_photos(tmp_path / "none", 5, 1, (0.0, 0.0), decode=lambda body: {"codes": []}, tries=2)


@pytest.mark.parametrize(("factor", "wide"), [(1.0, (0.025, 0.030)), (6.0, None), (0.1, None)])
def test_the_usual_cost_of_a_load_photo_or_the_nearest_that_this_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, wide: tuple[float, float] | None
) -> None:
    """Costs are made up here, from each photo's number of pixels, so that machines of any speed can be had."""

    def cost_s(decode: object, body: bytes, repeats: int = 5) -> float:
        with Image.open(io.BytesIO(body)) as image:
            return factor * (0.015 + image.width * image.height / 5e7)

    def reads_all(body: bytes) -> dict[str, object]:
        return {"codes": labels[body]["codes"]}

    def kept(*arguments: object, **named: object) -> tuple[bytes, dict[str, Any]]:
        body, label = drawn(*arguments, **named)  # type: ignore[arg-type]
        labels[body] = label
        return body, label

    labels: dict[bytes, dict[str, Any]] = {}
    monkeypatch.setattr("codereader.photos.decode_cpu_s", cost_s)
    monkeypatch.setattr("codereader.photos.photo_bytes", kept)
    low, high = choose_load_photos(tmp_path, 5, 3, decode=reads_all)
    costs = [json.loads(line)["cpu_s"] for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert len(costs) == 3
    assert all(low <= cost <= high for cost in costs)
    assert high / low == pytest.approx(1.2)
    assert wide is None or (low, high) == pytest.approx(wide)


def test_photo_bytes_are_decoded_from_any_format(decoder: Decoder) -> None:
    body, label = next(
        (body, label)
        for body, label in (photo_bytes(21, index) for index in range(20))
        if label["codes"] and all_right(decoder(body), label)
    )
    with Image.open(io.BytesIO(body)) as image:
        for kind, mode in (("PNG", "RGBA"), ("PNG", "L"), ("JPEG", "CMYK"), ("BMP", "RGB"), ("GIF", "P")):
            buffer = io.BytesIO()
            image.convert(mode).save(buffer, kind)
            assert all_right(decoder(buffer.getvalue()), label), (kind, mode)
