"""The certificates on disk: each is issued once, and again only if its content changes or a file is missing."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mlscale.atomic import write_whole
from onenode.certificates import AUTHORITIES, KeyPair, Leaf, issue, leaves, new_authority, new_key, public_key
from onenode.settings import Settings

_SERVICE_ACCOUNTS: Final = "service-accounts"


def ensure_certificates(folder: Path, settings: Settings) -> None:
    """Every certificate of the cluster in ``folder``, NAME.crt and NAME.key, and the key of service account tokens."""
    now = datetime.datetime.now(datetime.UTC)
    known = _known(folder / "issued.json")
    issued: dict[str, str] = {}
    authorities: dict[str, KeyPair] = {}
    for name in AUTHORITIES:
        authorities[name] = _read(folder, name) or _write(folder, name, new_authority(name, now))
    for leaf in leaves(settings):
        authority = authorities[leaf.authority]
        issued[leaf.name] = _digest(leaf, authority)
        if known.get(leaf.name) != issued[leaf.name] or _read(folder, leaf.name) is None:
            _write(folder, leaf.name, issue(leaf, authority, now))
    write_whole(folder / "keda/ca.crt", authorities["ca"].certificate)
    if not (folder / f"{_SERVICE_ACCOUNTS}.pub").exists():
        key = new_key()
        write_whole(folder / f"{_SERVICE_ACCOUNTS}.key", key)
        write_whole(folder / f"{_SERVICE_ACCOUNTS}.pub", public_key(key))
    write_whole(folder / "issued.json", json.dumps(issued, indent=2))


def issue_leaves(folder: Path, wanted: Iterable[Leaf], authorities: Path) -> None:
    """Missing certificates into ``folder``, issued by the cluster's authorities in the folder ``authorities``."""
    now = datetime.datetime.now(datetime.UTC)
    for leaf in wanted:
        if _read(folder, leaf.name) is None:
            authority = _read(authorities, leaf.authority)
            assert authority is not None, "the cluster has its certificates"
            _write(folder, leaf.name, issue(leaf, authority, now))


def _digest(leaf: Leaf, authority: KeyPair) -> str:
    return hashlib.sha256(repr(leaf).encode() + authority.certificate).hexdigest()


def _known(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text()))
    except FileNotFoundError:
        return {}


def _read(folder: Path, name: str) -> KeyPair | None:
    try:
        return KeyPair((folder / f"{name}.crt").read_bytes(), (folder / f"{name}.key").read_bytes())
    except FileNotFoundError:
        return None


def _write(folder: Path, name: str, pair: KeyPair) -> KeyPair:
    """Write the key before the certificate, so that a certificate never lacks its key."""
    (folder / f"{name}.crt").unlink(missing_ok=True)
    write_whole(folder / f"{name}.key", pair.key)
    write_whole(folder / f"{name}.crt", pair.certificate)
    return pair
