"""Certificates: each signed by its own authority, for what it may be used for and no more, and issued once."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from onenode.certificates import AUTHORITIES, leaves
from onenode.parts import KUBECONFIG_USERS
from onenode.pki import ensure_certificates
from onenode.settings import Settings

SETTINGS = Settings("10.213.0.1", "10.213.0.2")


def _load(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def _texts(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".crt", ".key", ".pub")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ensure_certificates(tmp_path, SETTINGS)
    return tmp_path


def test_each_is_signed_by_its_authority_and_by_no_other(folder: Path) -> None:
    for leaf in leaves(SETTINGS):
        certificate = _load(folder, leaf.name)
        for name in AUTHORITIES:
            if name == leaf.authority:
                certificate.verify_directly_issued_by(_load(folder, name))
            else:
                with pytest.raises(ValueError):
                    certificate.verify_directly_issued_by(_load(folder, name))


def test_each_may_do_what_it_is_for(folder: Path) -> None:
    for leaf in leaves(SETTINGS):
        certificate = _load(folder, leaf.name)
        purposes = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        assert (ExtendedKeyUsageOID.CLIENT_AUTH in purposes, ExtendedKeyUsageOID.SERVER_AUTH in purposes) == (
            leaf.client,
            leaf.server,
        )
        groups = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        assert groups == list(leaf.groups)


def test_only_the_administrator_is_master() -> None:
    assert [leaf.name for leaf in leaves(SETTINGS) if "system:masters" in leaf.groups] == ["admin"]


def test_a_server_is_named_by_every_address_it_is_reached_by(folder: Path) -> None:
    names = _load(folder, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(one) for one in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "10.213.0.2", "10.96.0.1"}


def test_keys_are_nobody_elses_business(folder: Path) -> None:
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.glob("*.key"))


def test_everybody_with_a_kubeconfig_has_a_client_certificate() -> None:
    clients = {leaf.name for leaf in leaves(SETTINGS) if leaf.client and leaf.authority == "ca"}
    assert {*KUBECONFIG_USERS, "admin"} <= clients


def test_a_second_time_nothing_changes(folder: Path) -> None:
    before = _texts(folder)
    ensure_certificates(folder, SETTINGS)
    assert _texts(folder) == before


def test_another_address_renews_what_names_it_and_nothing_else(folder: Path) -> None:
    before = _texts(folder)
    ensure_certificates(folder, Settings("10.213.0.5", "10.213.0.6"))
    changed = {name.partition(".")[0] for name, text in _texts(folder).items() if before[name] != text}
    assert changed == {"apiserver", "kubelet-server", "metrics-server-server"}


@pytest.mark.parametrize("lost", ["kubelet.crt", "kubelet.key", "service-accounts.pub"])
def test_what_is_lost_is_made_again(folder: Path, lost: str) -> None:
    before = _texts(folder)
    (folder / lost).unlink()
    ensure_certificates(folder, SETTINGS)
    changed = {name.partition(".")[0] for name, text in _texts(folder).items() if before[name] != text}
    assert changed == {lost.partition(".")[0]}
    certificate = _load(folder, "kubelet")
    certificate.verify_directly_issued_by(_load(folder, "ca"))


def test_a_lost_authority_renews_all_below_it(folder: Path) -> None:
    (folder / "etcd-ca.crt").unlink()
    ensure_certificates(folder, SETTINGS)
    _load(folder, "etcd").verify_directly_issued_by(_load(folder, "etcd-ca"))
    _load(folder, "apiserver-etcd").verify_directly_issued_by(_load(folder, "etcd-ca"))
