"""Health probes of the node's parts from the host, over sockets created in the node's network."""

from __future__ import annotations

import ctypes
import http.client
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import Final

from onenode.parts import Probe

_NET: Final = 0x40000000
_AT_MOST_S: Final = 3.0


def probe(init_pid: int, wanted: Probe, admin: ssl.SSLContext) -> str | None:
    """None if the part is healthy, else what is wrong.

    Args:
        init_pid: the node's first process.
        admin: TLS with the administrator's certificate, for probes that need it.
    """
    try:
        if wanted.kind == "unix":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(_AT_MOST_S)
                sock.connect(f"/proc/{init_pid}/root{wanted.address}")
            return None
        if wanted.kind == "tcp":
            with socket_in(init_pid) as sock:
                sock.settimeout(_AT_MOST_S)
                sock.connect((wanted.address, wanted.port))
            return None
        context = None if wanted.kind == "http" else admin if wanted.admin else _unchecked()
        return _get(init_pid, wanted, context)
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__


def socket_in(init_pid: int) -> socket.socket:
    """A TCP socket in the node's network. Only a short-lived thread enters it, the caller stays outside."""
    sockets: list[socket.socket] = []
    errors: list[OSError] = []

    def create() -> None:
        try:
            descriptor = os.open(f"/proc/{init_pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(descriptor, _NET) != 0:
                    raise OSError(ctypes.get_errno(), "the node's network can't be entered")
            finally:
                os.close(descriptor)
            sockets.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return sockets[0]


def admin_context(pki: Path) -> ssl.SSLContext:
    """TLS as the administrator, trusting only the cluster's authority. Raises OSError if there is none yet."""
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    return context


def _unchecked() -> ssl.SSLContext:
    """For a part on the node's loopback with a self-signed certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _get(init_pid: int, wanted: Probe, context: ssl.SSLContext | None) -> str | None:
    sock = socket_in(init_pid)
    try:
        sock.settimeout(_AT_MOST_S)
        sock.connect((wanted.address, wanted.port))
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=wanted.address)
        connection = http.client.HTTPConnection(wanted.address, wanted.port, timeout=_AT_MOST_S)
        connection.sock = sock
        connection.request("GET", wanted.path)
        response = connection.getresponse()
        body = response.read(300).decode(errors="replace").strip().replace("\n", " ")
        return None if response.status == 200 else f"HTTP {response.status}: {body}"
    finally:
        sock.close()
