"""Metrics are for everybody: no torch behind the import."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("folder", ["metrics", "rivals"])
def test_importing_loads_no_torch(folder: str) -> None:
    code = (
        f"import sys, ssae_debias.{folder}; "
        "print([name for name in ('torch', 'transformers', 'faiss', 'matplotlib') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
