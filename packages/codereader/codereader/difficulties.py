"""Difficulty levels of generated photos: the ranges that their properties are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

from codereader.labels import PrintRange

# The measured levels; training adds "harsh", parts of which can't be read.
DIFFICULTIES = ("easy", "medium", "hard")


@dataclass(frozen=True)
class Difficulty:
    """Ranges of one level; pixels refer to a photo of 640 x 480.

    Attributes:
        module_px: smallest and largest size of a module in the photo.
        turn: largest rotation in degrees (180: any).
        tilt: largest shift of a corner by perspective, as a share of the code's side.
        blur_modules: largest sigma of the lens blur in modules.
        motion_modules: longest motion blur in modules.
        noise, light, shadow, glare: see `Optics`, largest values; shadow and glare occur in `unusual` photos.
        quality: lowest JPEG quality.
        curl: largest angle in radians by which a code's edge turns away around a cylinder.
        unusual: share of labels that are bent, and of photos with a shadow, with glare, out of focus.
        cut: share of photos with an additional code that the frame cuts.
        decoys: most look-alikes of codes.
        prints: range of printed labels.
    """

    module_px: tuple[float, float]
    turn: float
    tilt: float
    blur_modules: float
    motion_modules: float
    noise: float
    light: float
    shadow: float
    glare: float
    quality: int
    curl: float
    unusual: float
    cut: float
    decoys: int
    prints: PrintRange


LEVELS = {
    "easy": Difficulty(
        module_px=(2.0, 3.6), turn=20, tilt=0.03, blur_modules=0.25, motion_modules=0.0, noise=4, light=0.25,
        shadow=0.0, glare=0.0, quality=75, curl=0.0, unusual=0.0, cut=0.0, decoys=1,
        prints=PrintRange(contrast=110, spread=0.05, inverted=0.0, styled=0.05, quiet=1.0),
    ),
    "medium": Difficulty(
        module_px=(1.6, 3.6), turn=180, tilt=0.1, blur_modules=0.4, motion_modules=0.6, noise=8, light=0.5,
        shadow=0.3, glare=0.2, quality=55, curl=0.4, unusual=0.15, cut=0.05, decoys=2,
        prints=PrintRange(contrast=70, spread=0.12, inverted=0.04, styled=0.12, quiet=0.8),
    ),
    "hard": Difficulty(
        module_px=(1.25, 3.6), turn=180, tilt=0.18, blur_modules=0.6, motion_modules=1.2, noise=14, light=0.7,
        shadow=0.5, glare=0.35, quality=30, curl=0.8, unusual=0.25, cut=0.1, decoys=3,
        prints=PrintRange(contrast=40, spread=0.2, inverted=0.08, styled=0.2, quiet=0.6),
    ),
    "harsh": Difficulty(
        module_px=(1.0, 4.5), turn=180, tilt=0.25, blur_modules=1.0, motion_modules=1.8, noise=20, light=0.8,
        shadow=0.7, glare=0.85, quality=15, curl=1.1, unusual=0.5, cut=0.15, decoys=4,
        prints=PrintRange(contrast=25, spread=0.28, inverted=0.12, styled=0.3, quiet=0.4),
    ),
}  # fmt: skip
