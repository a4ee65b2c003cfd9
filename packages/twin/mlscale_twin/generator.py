"""Random numbers in compiled code: xoshiro256++ (Blackman and Vigna, 2019; public domain), seeded by NumPy.

NumPy's own generators work there too, but are unboxed at each call from Python, which is too slow for a control tick.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mlscale_twin.compiled import inlined

RngState = npt.NDArray[np.uint64]

_23, _41, _17, _45, _19, _11 = (np.uint64(number) for number in (23, 41, 17, 45, 19, 11))
_UNIT = 1.0 / 9007199254740992.0


def seed_state(*seed: int) -> RngState:
    """The generator's state (4,): independent streams for different seeds, by NumPy's SeedSequence."""
    return np.random.SeedSequence(seed).generate_state(4, np.uint64).astype(np.uint64)


@inlined
def uniform(state: RngState) -> float:
    """Uniform in [0, 1), 53 bits; advances ``state``."""
    total = state[0] + state[3]
    bits = ((total << _23) | (total >> _41)) + state[0]
    shifted = state[1] << _17
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = (state[3] << _45) | (state[3] >> _19)
    return np.float64(bits >> _11) * _UNIT


@inlined
def exponential(state: RngState) -> float:
    """Exponential with mean 1."""
    return -math.log(1.0 - uniform(state))


@inlined
def random_index(state: RngState, number: int) -> int:
    """Uniform integer in 0 .. number - 1."""
    return int(uniform(state) * number)
