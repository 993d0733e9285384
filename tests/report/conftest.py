"""Rows with chosen figures, and a report whose every text tries to run a script."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd
import pytest

from ssae_debias.report import Estimate, MethodRow, ReportContent, example_content

# Each would rename the page if it ran; none may do more than stand there as text.
ATTACKS = (
    "<script>document.title='RAN'</script>",
    "</script><script>document.title='RAN'</script>",
    '"><img src=x onerror="document.title=\'RAN\'">',
    "</title><svg onload=\"document.title='RAN'\">",
    "</style><script>document.title='RAN'</script>",
    "{{ 7 * 7 }}{% raw %}",
    "' onmouseover='document.title=`RAN`' x='",
    "javascript:document.title='RAN'",
)


def estimate(mean: float, half: float = 0.02) -> Estimate:
    return Estimate(mean, mean - half, mean + half)


@pytest.fixture
def make_row() -> Callable[..., MethodRow]:
    def make(
        method: str, worst: float, *, half: float = 0.02, labels: bool = False, leak: float | None = 0.5
    ) -> MethodRow:
        leakage = None if leak is None else estimate(leak)
        return MethodRow(
            method=method,
            needs_group_labels=labels,
            task_accuracy=estimate(0.8),
            attribute_accuracy=estimate(0.5),
            worst_group_accuracy=estimate(worst, half),
            groups={
                "a/0": {"accuracy": estimate(worst), "n": 1000},
                "b/1": {"accuracy": estimate(0.9), "n": 90},
            },
            leakage={"linear": leakage, "mlp": leakage},
            seconds=1.0,
        )

    return make


@pytest.fixture
def hostile() -> ReportContent:
    """A report with an attack in the title, every text, token, name, key and value."""
    attack = "".join(ATTACKS)
    rows = [
        dataclasses.replace(
            row,
            groups={f"{attack}{name}": group for name, group in row.groups.items()},
            method=row.method if row.method in ("original", "debiaser") else f"{attack}{row.method}",
        )
        for row in example_content().rows
    ]
    flagged = pd.DataFrame(
        {
            "site": [attack],
            "latent": [1],
            "decision": [attack],
            "reason": [attack],
            "name": [attack],
            "note": [attack],
            "response": [1.0],
            "nearest": [[(attack, 1, 0.5, attack), ("javascript:alert(1)", 2, 0.5, "javascript:alert(1)")]],
            "top_tokens": [[attack, "she"]],
            "top_texts": [[(attack, [("script", 2.0)]), (f"x {attack}", [(attack, 1.0), ("nowhere", 1.0)])]],
        }
    )
    return dataclasses.replace(
        example_content(),
        title=attack,
        summary=[attack],
        rows=rows,
        sets={attack: 3},
        versions={attack: attack},
        recipe={attack: [attack]},
        flagged=flagged,
        saes={attack: attack},
        notes=[attack],
        subdomain={"documents": [attack], "stats": {attack: attack}},
        training={attack: {"fvu": 0.1, "history": [{"step": 0, "fvu": 1.0}, {"step": 1, "fvu": 0.5}]}},
    )
