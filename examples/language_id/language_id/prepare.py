"""``python -m language_id.prepare FOLDER``: train the model in a second, and write files to send into FOLDER.

The data are names in many languages that the package babel ships (Unicode's CLDR). It is trained on names of languages
and months; what is sent are names of countries, which it has never seen.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from babel import Locale

from language_id.model import WEIGHTS, groups

LANGUAGES = ("de", "en", "es", "fi", "fr", "it", "nl", "pl", "pt", "sv")
FILES_EACH, LINES = 2, 1000


def train() -> None:
    """Count groups of characters by language; save their log probabilities, smoothed by one."""
    counts = [
        Counter(group for name in _known_names(Locale(language)) for group in groups(name)) for language in LANGUAGES
    ]
    every = sorted(set().union(*counts))
    table = np.array([[count[group] + 1.0 for count in counts] for group in every])
    np.savez(WEIGHTS, languages=LANGUAGES, groups=every, logs=np.log(table / table.sum(axis=0)))


def write_files(folder: Path) -> None:
    """Texts of countries' names, drawn with a seed, and labels.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, labels = random.Random(0), []
    for language in LANGUAGES:
        names = sorted(Locale(language).territories.values())
        for number in range(FILES_EACH):
            file = folder / f"{language}-{number}.txt"
            file.write_text("\n".join(draw.choices(names, k=LINES)))
            labels.append(json.dumps({"file": file.name, "answer": {"language": language}}))
    (folder / "labels.jsonl").write_text("\n".join(labels) + "\n")


def _known_names(locale: Locale) -> list[str]:
    months = [name for width in locale.months["format"].values() for name in width.values()]
    return [*locale.languages.values(), *months]


if __name__ == "__main__":
    train()
    write_files(Path(sys.argv[1]))
