"""The planner, as a fixture."""

from pathlib import Path

import pytest

from .planner import Planner


@pytest.fixture
def planned(tmp_path: Path) -> Planner:
    return Planner(tmp_path)
