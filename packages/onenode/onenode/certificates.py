"""Keys and certificates: which ones the cluster needs, and how to issue them. Pure; `onenode.pki` writes them.

Three authorities: "ca" for clients and servers of Kubernetes, "etcd-ca" for etcd (the API server alone holds a client
certificate), "front-proxy-ca" for the API server as a client of aggregated ones. The groups and user names are those
that Kubernetes binds its RBAC roles to.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from onenode.layout import API_SERVICE_ADDRESS, NODE_NAME, MachineLayout
from onenode.settings import Settings

AUTHORITIES: Final = ("ca", "etcd-ca", "front-proxy-ca")
_VALID: Final = datetime.timedelta(days=3650)
# Valid from a little before now, since a clock may be set back.
_BACKDATED: Final = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate to issue. ``client`` and ``server``: what it may be used for."""

    name: str
    authority: str
    common_name: str
    groups: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    server: bool = False
    client: bool = True


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


def leaves(settings: Settings) -> tuple[Leaf, ...]:
    """Every certificate below the authorities."""
    node = settings.node_address
    kubernetes = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    loopback = ("127.0.0.1",)
    return (
        Leaf("admin", "ca", "mlscale-admin", ("system:masters",)),
        Leaf("apiserver", "ca", "kube-apiserver", (), kubernetes, (*loopback, node, API_SERVICE_ADDRESS), True, False),
        Leaf("apiserver-kubelet", "ca", "kube-apiserver-kubelet-client"),
        Leaf("apiserver-etcd", "etcd-ca", "kube-apiserver-etcd-client"),
        Leaf("etcd", "etcd-ca", "etcd", (), ("localhost",), loopback, True),
        Leaf("front-proxy", "front-proxy-ca", "front-proxy-client"),
        Leaf("kube-controller-manager", "ca", "system:kube-controller-manager"),
        Leaf("kube-scheduler", "ca", "system:kube-scheduler"),
        Leaf("kube-proxy", "ca", "system:kube-proxy"),
        *_kubelet(NODE_NAME, node),
        Leaf("karpenter", "ca", "mlscale:karpenter"),
        Leaf("machines", "ca", "mlscale:machines"),
        Leaf("metrics-server", "ca", "mlscale:metrics-server"),
        Leaf("metrics-server-server", "ca", "metrics-server", (), *_service("metrics-server", node), True, False),
        Leaf("keda", "ca", "mlscale:keda"),
        Leaf("keda/tls", "ca", "keda", (), *_keda(node), True),
    )


def machine_leaves(layout: MachineLayout) -> tuple[Leaf, ...]:
    """What a machine needs to join: its kubelet's client and server certificates."""
    return _kubelet(layout.name, layout.addresses[1])


def _kubelet(name: str, address: str) -> tuple[Leaf, ...]:
    user = f"system:node:{name}"
    return (
        Leaf("kubelet", "ca", user, ("system:nodes",)),
        Leaf("kubelet-server", "ca", user, (), (name,), (address,), True, False),
    )


def _service(name: str, node: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """DNS names and addresses of an aggregated API server in kube-system that runs on the node."""
    return (f"{name}.kube-system.svc", f"{name}.kube-system"), (node,)


def _keda(node: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """DNS names and addresses of KEDA's operator and metrics server, which share a certificate as KEDA's own do."""
    return ("keda-metrics-apiserver.keda.svc", "keda-metrics-apiserver.keda"), (node, "127.0.0.1")


def new_key() -> bytes:
    """A private key (ECDSA P-256), PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key(key: bytes) -> bytes:
    """The public key of a private one, PEM."""
    return (
        _load(key)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def new_authority(name: str, now: datetime.datetime) -> KeyPair:
    """A self-signed certificate authority. ``now`` has a time zone."""
    pem = new_key()
    key, subject = _load(pem), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"mlscale-{name}")])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(subject, key, now)
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), pem)


def issue(leaf: Leaf, authority: KeyPair, now: datetime.datetime) -> KeyPair:
    """A certificate for ``leaf``, signed by its authority."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    pem = new_key()
    key = _load(pem)
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in leaf.groups]
    subject = x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)])
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH] * leaf.server + [ExtendedKeyUsageOID.CLIENT_AUTH] * leaf.client
    builder = (
        _builder(subject, key, now)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    )
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in leaf.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in leaf.addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(_load(authority.key), hashes.SHA256())
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), pem)


def _builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
    )


def _load(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "all keys here are made by new_key"
    return key
