"""Weights on disk: one safetensors file per network, beside the code or in the folder that MLSCALE_WEIGHTS names."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from codereader.errors import BadWeights
from codereader.nets import NETS

VARIABLE = "MLSCALE_WEIGHTS"
_REMEDY = f"run `codereader train`, or set {VARIABLE} to a folder of weights"


def weights_folder(folder: Path | None = None) -> Path:
    """``folder``, else $MLSCALE_WEIGHTS, else the weights that the package ships."""
    if folder is not None:
        return folder
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    package = Path(__file__).resolve().parent
    return package / "trained"


def save(net: nn.Module, path: Path) -> None:
    """Writes the network's weights to ``path``, whole or not at all."""
    from safetensors.torch import save as as_bytes

    write_whole(path, as_bytes({name: tensor.contiguous() for name, tensor in net.state_dict().items()}))


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Writes a file whole or not at all; raises OSError with the cause, which torch and safetensors would hide."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)


def load(name: str, folder: Path | None = None) -> nn.Module:
    """The network ``name`` (see `nets.NETS`), ready for inference.

    Raises:
        BadWeights: the file is missing, corrupt or of another architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_folder(folder) / f"{name}.safetensors"
    net = NETS[name]()
    try:
        if not path.is_file():
            raise BadWeights("there are no weights", str(path), _REMEDY)
        net.load_state_dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise BadWeights(f"the weights can't be read: {error}", str(path), _REMEDY) from None
    except RuntimeError:
        raise BadWeights("the weights belong to another architecture", str(path), _REMEDY) from None
    return fused(net).to(memory_format=torch.channels_last)


def fused(net: nn.Module) -> nn.Module:
    """The network for inference, its batch norms folded into the convolutions before them: same answers, less work."""
    net.eval()
    for module in net.modules():
        children = list(module.named_children())
        for (name, conv), (norm_name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return net
