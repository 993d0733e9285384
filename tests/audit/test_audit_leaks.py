"""Leakage: balanced rows, a planted leak that is found and removed, and values too rare to be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted_audit import planted, read_as_is

from ssae_debias.audit import leaks
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.audit.leaks import leakage_by_site, leakage_rows, readable_values
from ssae_debias.edit import Projection

DATA = planted(240)
KNOWN = np.ones(240, dtype=bool)
WITHOUT = {"module:0": Projection.onto_complement_of(torch.eye(8)[1:2], center=torch.zeros(8))}


def test_rows_tell_nothing_by_their_label() -> None:
    random = np.random.default_rng(0)
    y = random.integers(2, size=2000)
    a = np.where(random.random(2000) < 0.9, y, 1 - y).astype(str)
    known = random.random(2000) < 0.8
    rows = leakage_rows(y, a, known, 0)
    assert known[rows].all()
    for label in (0, 1):
        values, counts = np.unique(a[rows][y[rows] == label], return_counts=True)
        assert values.tolist() == ["0", "1"]
        assert counts[0] == counts[1]
        assert counts.max() <= 400
    assert rows.tolist() == leakage_rows(y, a, known, 0).tolist()


def test_rare_values_do_not_hide_the_others() -> None:
    y = np.repeat([0, 1], 60)
    a = np.array((["F"] * 30 + ["M"] * 25 + ["X"] * 5) * 2)
    everywhere = np.ones(120, dtype=bool)
    assert readable_values(y, a, everywhere) == ("F", "M")
    rows = leakage_rows(y, a, everywhere, 0)
    assert len(rows) == 100
    assert set(a[rows]) == {"F", "M"}
    assert readable_values(y, np.where(y == 1, "M", "F"), everywhere) == ()  # the attribute is the label
    assert len(leakage_rows(y, np.where(y == 1, "M", "F"), everywhere, 0)) == 0
    assert readable_values(y, a, np.zeros(120, dtype=bool)) == ()


def test_a_planted_leak_is_found_and_its_removal_seen() -> None:
    kept = KeptLogits(read_as_is(), None)
    (leak,) = leakage_by_site(
        kept, DATA.X, DATA.y, DATA.a.astype(str), KNOWN, sites=["module:0"], edits=WITHOUT
    )
    assert leak.linear.low > 0.85
    assert leak.mlp.low > 0.8
    assert leak.edited_linear.low < 0.55
    assert leak.edited_mlp.mean < 0.65
    assert leak.linear.low < leak.linear.mean < leak.linear.high
    (unedited,) = leakage_by_site(kept, DATA.X, DATA.y, DATA.a, KNOWN, sites=["module:0"], edits={})
    assert unedited.edited_linear is None


def test_figures_of_a_stopped_run_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def quick(x: Any, values: Any, cells: Any, probe: str, random_state: int) -> tuple[float, float, float]:
        calls.append(probe)
        return 0.5, 0.4, 0.6

    monkeypatch.setattr(leaks, "_read", quick)
    kept = KeptLogits(read_as_is(), tmp_path)
    given = (kept, DATA.X, DATA.y, DATA.a, KNOWN)
    first = leakage_by_site(*given, sites=["module:0"], edits=WITHOUT)
    assert calls == ["linear", "mlp"] * 2
    assert leakage_by_site(*given, sites=["module:0"], edits=WITHOUT) == first
    assert len(calls) == 4
    leakage_by_site(*given, sites=["module:0"], edits=WITHOUT, random_state=1)
    assert len(calls) == 8


def test_without_comparable_rows_there_is_no_figure() -> None:
    kept = KeptLogits(read_as_is(), None)
    assert leakage_by_site(kept, DATA.X, DATA.y, DATA.y, KNOWN, sites=["module:0"], edits={}) == []
