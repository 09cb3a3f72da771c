"""A squall over every ESP, in both tempers, ends as if there had been none."""

import os
from pathlib import Path
from typing import Any

import pytest

from ..shop import Shop
from .squall import Squall

SEEDS = range(int(os.environ.get("SQUALLS", "1")))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", ["adversarial", "permissive"])
def test_a_squall_ends_as_if_there_had_been_none(esp: Any, mode: str, seed: int, tmp_path: Path) -> None:
    esp.settings(mode=mode)
    squall = Squall(shop=Shop(tmp_path, esp, "sqlite"), seed=20261123 + seed)
    squall.rage(rounds=8)
    assert squall.wrong == []
    assert squall.kills > 0
