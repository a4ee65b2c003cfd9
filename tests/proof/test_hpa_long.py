"""100,000 situations and 400 autoscaler lifetimes, decided by our HPA and by Kubernetes' own code: `make proof`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "hpa"))

from hpa_agreement import differing_looks, differing_situations
from hpa_oracle import CALCULATOR, oracle

SITUATIONS, LIVES = 100_000, 400
# Least number of times that each return statement of the calculator has to be reached.
LEAST = 500


def test_100_000_situations(tmp_path: Path) -> None:
    with oracle() as kubernetes:
        differing = differing_situations(kubernetes, SITUATIONS, 1, tmp_path)
        reached = kubernetes.returns(tmp_path)
    for line, count in reached.items():
        print(f"{CALCULATOR}:{line}: reached {count} times", file=sys.__stderr__)
    print(f"{SITUATIONS - len(differing)} of {SITUATIONS} decided alike", file=sys.__stderr__)
    assert differing == []
    assert min(reached.values()) >= LEAST


def test_400_lives(tmp_path: Path) -> None:
    with oracle() as kubernetes:
        looks, differing = differing_looks(kubernetes, LIVES, 1, tmp_path)
    print(f"{looks} looks in {LIVES} lives, {len(differing)} lives differ", file=sys.__stderr__)
    assert differing == []
