"""The protocols of the checkout and of the published runs (METHOD §4, §5)."""

from __future__ import annotations

from mlscale.runs import MlscaleError
from mlscale_experiment.protocol import Bodies, Protocol, read_protocol
from mlscale_paper import places


def default_protocol(bodies: Bodies) -> Protocol:
    """Defaults for a quick look without a pilot; figures drawn from it say so.

    One replica with 0.3 core answers about 8 photos of 27 ms a second, so 2 clients that think 0.6 s use a third of
    it and 16 ask for about 2.7 replicas.
    """
    return Protocol(
        origin="default",
        bodies=bodies,
        think_mean_s=0.6,
        step_clients=16,
        level_s=0.5,
        open_baseline_rps=2.8,
        open_step_rps=22.0,
        why={"*": "defaults for a first look; no pilot was run on this host"},
    )


def current_protocol() -> Protocol:
    """The checkout's protocol, or the defaults where no pilot was run."""
    protocol = read_protocol(places.protocol_file()) if places.in_checkout() else None
    return protocol or default_protocol(Bodies(folder="photos/load", count=1))


def published_protocol() -> Protocol:
    """The protocol of the published runs, to which the twin's profiles are fitted; else the checkout's."""
    published = read_protocol(places.reference_protocol_file()) if places.in_checkout() else None
    return published or current_protocol()


def photo_cpu_s() -> float:
    """CPU of the models for a photo of the published runs' load, s, as the pilot measured it.

    Raises:
        MlscaleError: no pilot was run.
    """
    cpu_s = published_protocol().bodies.cpu_mean_s
    if cpu_s is None:
        raise MlscaleError("no CPU time of the photos", str(places.reference_protocol_file()), "run the pilot")
    return cpu_s
