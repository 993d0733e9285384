"""`AuditReport`: plain JSON, a table, both files, and what cannot be exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_audit import found_with, read_as_is

from ssae_debias.audit import AuditReport
from ssae_debias.report.audit import example_audit_content


@pytest.fixture(scope="module")
def report() -> AuditReport:
    table = pd.DataFrame({"site": "module:0", "latent": range(8), "decision": ["ablate"] + ["keep"] * 7})
    content = example_audit_content()
    latents = content.latents.assign(
        attribution=np.nan, array=[np.arange(2)] * len(content.latents), missing=pd.NA
    )
    return AuditReport(replace(content, latents=latents), read_as_is(), found_with(table))


def test_json_holds_no_nan_and_no_texts(report: AuditReport) -> None:
    content = report.to_dict()
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text) == content
    latent = content["latents"][0]
    assert latent["attribution"] is None
    assert latent["missing"] is None
    assert latent["array"] == [0, 1]
    assert "top_texts" not in latent
    first = report.original
    assert content["variants"][0]["accuracy"] == {
        "mean": first.accuracy.mean, "low": first.accuracy.low, "high": first.accuracy.high,
    }  # fmt: skip
    assert content["data"]["counts"] == {
        str(label): row for label, row in report.content.data.counts.to_dict("index").items()
    }


def test_the_table_has_a_row_a_variant(report: AuditReport) -> None:
    frame = report.to_frame()
    assert list(frame.index) == [variant.name for variant in report.content.variants]
    assert frame.loc["as it is", "worst_group"] == "nurse/M"
    assert frame.loc["as it is", "flip_rate_low"] == report.original.flips["rate"].low
    assert (report.original.role, report.edited.role) == ("start", "ours")


def test_save_writes_both_files_and_leaves_others_alone(report: AuditReport, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    page = report.save(tmp_path)
    assert page == tmp_path / "report.html"
    assert "<html" in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == report.to_dict()
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "report.html", "results.json"}


def test_the_edited_classifier_is_a_function(report: AuditReport) -> None:
    x = np.arange(16.0).reshape(2, 8)
    assert report.edited_classifier()(x).tolist() == [[0.0, 1.0], [0.0, 9.0]]
    assert list(report.edits) == ["module:0"]


def test_only_text_models_are_exported(report: AuditReport, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Sequential is no Hugging Face model"):
        report.export(tmp_path / "edited")
    assert str(report).splitlines()
