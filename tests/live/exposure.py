"""What others could reach or read: open sockets, and secrets in what was written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import psutil


def exposed(pids: Iterable[int] = ()) -> list[str]:
    """Sockets of ``pids``, of this process and of its descendants that await packets in this machine's own network
    namespace on an address beyond loopback."""
    here, found = Path("/proc/self/ns/net").readlink(), []
    descendants = [child.pid for child in psutil.Process().children(recursive=True)]
    for pid in {*pids, os.getpid(), *descendants}:
        try:
            if Path(f"/proc/{pid}/ns/net").readlink() != here:
                continue
            sockets = psutil.Process(pid).net_connections("inet")
        except (OSError, psutil.Error):  # it has ended
            continue
        for socket in sockets:
            waits = socket.status == psutil.CONN_LISTEN or (socket.status == psutil.CONN_NONE and not socket.raddr)
            if waits and socket.laddr and not ip_address(socket.laddr.ip.partition("%")[0]).is_loopback:
                found.append(f"{pid}: {socket.laddr.ip}:{socket.laddr.port}")
    return found


def files_with(secrets: Iterable[str], *folders: Path) -> list[str]:
    """Files below ``folders`` that contain one of ``secrets``."""
    needles = [secret.encode() for secret in secrets]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return [str(file) for file in files if any(needle in file.read_bytes() for needle in needles)]
