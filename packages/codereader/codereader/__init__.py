"""Reads bar codes and QR codes in photographs; independent of mlscale. Names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codereader.decoder import Decoder, make_decoder, make_float32_decoder
    from codereader.difficulties import DIFFICULTIES
    from codereader.evaluation import measure, validation
    from codereader.photos import choose_load_photos, decode_cpu_s, photo_bytes

_NAMES = {
    "decoder": "Decoder make_decoder make_float32_decoder",
    "difficulties": "DIFFICULTIES",
    "evaluation": "measure validation",
    "photos": "choose_load_photos decode_cpu_s photo_bytes",
}
_LIVES_IN = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_LIVES_IN)


def __getattr__(name: str) -> Any:
    if name in _LIVES_IN:
        return getattr(import_module(f"codereader.{_LIVES_IN[name]}"), name)
    raise AttributeError(f"module 'codereader' has no attribute {name!r}")
