from __future__ import annotations

import dataclasses
import json
import math

import pandas as pd
import pytest

from ssae_debias.report import Estimate, MethodRow, ReportContent, example_content


def test_a_row_goes_through_json_and_comes_back_equal() -> None:
    for row in example_content().rows:
        assert MethodRow.from_dict(json.loads(json.dumps(dataclasses.asdict(row)))) == row


def test_the_schema_of_results_json_is_kept() -> None:
    row = dataclasses.asdict(example_content().rows[0])
    assert set(row) == {
        "method", "needs_group_labels", "task_accuracy", "attribute_accuracy", "worst_group_accuracy",
        "groups", "leakage", "seconds",
    }  # fmt: skip
    assert set(row["worst_group_accuracy"]) == {"mean", "low", "high"}
    assert set(row["leakage"]) == {"linear", "mlp"}


def test_unmeasured_leakage_is_read_as_none() -> None:
    row = dataclasses.asdict(example_content().rows[0])
    row["leakage"] = {"linear": None, "mlp": None}
    assert MethodRow.from_dict(row).leakage == {"linear": None, "mlp": None}


def test_a_missing_key_is_named() -> None:
    row = dataclasses.asdict(example_content().rows[0])
    del row["seconds"]
    with pytest.raises(ValueError, match="lacks 'seconds'"):
        MethodRow.from_dict(row)


@pytest.mark.parametrize("bounds", [(0.5, 0.6, 0.7), (0.5, 0.1, 0.4), (math.nan, 0, 1), (0.5, 0.1, math.inf)])
def test_an_estimate_refuses_what_is_no_interval(bounds: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="Estimate takes"):
        Estimate(*bounds)


def test_without_an_interval_the_order_is_open() -> None:
    assert Estimate(0.1, 0.1, 0.1).overlaps(Estimate(0.9, 0.8, 1.0))
    assert not Estimate(0.1, 0.0, 0.2).overlaps(Estimate(0.9, 0.8, 1.0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rows": []}, ValueError, "at least one MethodRow"),
        ({"rows": [{"method": "x"}]}, TypeError, "got dict; see MethodRow.from_dict"),
        ({"flagged": [1]}, TypeError, "pandas DataFrame or None, got list"),
        ({"flagged": pd.DataFrame({"site": ["embed"]})}, ValueError, r"lacks \['latent'\]"),
        ({"notes": "one string"}, TypeError, "put it into a list"),
    ],
)
def test_content_refuses_bad_parts(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dataclasses.replace(example_content(), **change)


def test_a_method_may_stand_once() -> None:
    rows = example_content().rows
    with pytest.raises(ValueError, match="each method once"):
        dataclasses.replace(example_content(), rows=[rows[0], rows[0]])


def test_a_summary_may_be_one_string() -> None:
    content = dataclasses.replace(example_content(), summary="One sentence.")
    assert isinstance(content, ReportContent)
    assert content.sentences == ("One sentence.",)
