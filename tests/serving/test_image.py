"""The application's image, built from its Dockerfile, serves a decode: `make proof`, some minutes and 15 GB of disk.

Docker's registry is not asked: in place of python:3.11-slim comes Debian's Python, made with debootstrap. torch is its
default build, since PyPI has no other.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from codereader.photos import photo_bytes

ROOT = Path(__file__).parents[2]
TOOLS = ("buildah", "runc", "debootstrap")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
BASE = "docker.io/library/python:3.11-slim"
IMAGE = "localhost/mlscale-app:proof"
# Where this host needs its own certificates or index to reach PyPI, so does the build.
HOST_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(bool(MISSING), reason=f"apt-get install {' '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap and buildah need root"),
]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """buildah with a storage of its own, removed afterwards."""
    folder = tmp_path_factory.mktemp("storage")
    command = ["buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
    yield command
    subprocess.run([*command, "rm", "--all"], check=False)
    shutil.rmtree(folder)


def run(command: list[str]) -> str:
    return subprocess.run(command, check=True, cwd=ROOT, text=True, stdout=subprocess.PIPE).stdout.strip()


def make_base(buildah: list[str], folder: Path) -> None:
    run(["debootstrap", "--variant=minbase", "--include=python3,python3-venv", "bookworm", str(folder)])
    (folder / "usr/bin/python").symlink_to("python3")
    for file in HOST_FILES:
        if Path(file).exists():
            (folder / file[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file[1:])
    container = run([*buildah, "from", "scratch"])
    run([*buildah, "add", "--quiet", container, str(folder), "/"])
    run([*buildah, "commit", "--quiet", "--rm", container, BASE])
    shutil.rmtree(folder)


def test_the_image_is_built_and_serves_a_decode(buildah: list[str], tmp_path: Path) -> None:
    make_base(buildah, tmp_path / "base")
    build = [*buildah, "build", "--isolation", "chroot", "--pull-never", "--build-arg", "PYTHON=3.11"]
    subprocess.run([*build, "-f", "containers/app/Dockerfile", "-t", IMAGE, "."], check=True, cwd=ROOT)
    container = run([*buildah, "from", "--pull-never", IMAGE])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [
        "python",
        "-m",
        "mlscale.serving.container",
        "--entry",
        "codereader.decoder:make_decoder",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    server = subprocess.Popen([*buildah, "run", "--isolation", "chroot", container, "--", *serve], text=True)
    try:
        body, label = photo_bytes(3, 0, "easy")
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(f"{url}/readyz", server)
        with urllib.request.urlopen(f"{url}/decode", body, timeout=60) as answer:
            codes = json.load(answer)["codes"]
        assert {code["text"] for code in codes} == {code["text"] for code in label["codes"]}
    finally:
        server.terminate()
        server.wait(30)


def wait_until_ready(url: str, server: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "not ready within 120 s"
            time.sleep(0.5)
