#!/bin/sh
# Makes .venv: the first Python 3.11 to 3.13 found, a pinned uv in it, then requirements.lock. Called by make.
# Does nothing when .venv is already what requirements.lock and each pyproject.toml ask for.
set -eu
cd "$(dirname "$0")"

UV_VERSION=0.13.9
NEEDED_GB=12   # the CUDA builds of torch, which PyPI serves for Linux, make .venv 6 GB; as much again while unpacking
STAMP=.venv/.made-from

fail() {
    echo "setup: $*" >&2
    exit 2
}

wanted=$(cat requirements.lock pyproject.toml packages/*/pyproject.toml paper/pyproject.toml setup.sh | cksum)
[ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$wanted" ] && exit 0

if [ ! -f "$STAMP" ]; then
    free_gb=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1024 / 1024))
    [ "$free_gb" -ge "$NEEDED_GB" ] ||
        fail "only $free_gb GB of disk are free at $PWD, $NEEDED_GB GB are needed (make room, or clone to another disk); nothing was downloaded"
fi

usable='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
python=
for candidate in .venv/bin/python python3 python3.11 python3.12 python3.13; do
    if "$candidate" -c "$usable" >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "no Python 3.11 to 3.13 with its venv module was found on PATH (install one, such as python3.12 and python3.12-venv)"

if [ "$python" != .venv/bin/python ]; then
    echo "setup: making .venv with $("$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')" >&2
    "$python" -m venv --clear .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
echo "setup: installing requirements.lock, $(grep -c == requirements.lock) packages (about two minutes on a warm network)" >&2
.venv/bin/uv pip sync --quiet --python .venv/bin/python requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable . \
    --editable packages/aws --editable packages/codereader --editable packages/experiment --editable packages/lab --editable packages/onenode --editable packages/twin \
    --editable paper
echo "setup: compiling the twin (about half a minute)" >&2
scratch=$(mktemp -d)
.venv/bin/mlscale simulate eks --machine-failures 60 --out "$scratch/run" >/dev/null 2>&1 ||
    echo "setup: the twin could not be compiled now; its first simulation will do it" >&2
rm -rf "$scratch"
printf '%s\n' "$wanted" >"$STAMP"
