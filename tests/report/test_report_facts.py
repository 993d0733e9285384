"""Facts that every page shows."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import torch

from ssae_debias.report.facts import subdomain_facts, training_facts, versions
from ssae_debias.retrieval import Retrieved


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["torch"] == torch.__version__
    assert found["ssae-debias"] == metadata.version("ssae-debias")


def test_training_ends_where_its_history_ends() -> None:
    history = [{"step": step, "fvu": 1 / step, "l0": 4.0, "dead_fraction": 0.0} for step in (1, 2, 4)]
    found = training_facts({"embed": history, "given": []})
    assert list(found) == ["embed"]
    assert found["embed"]["fvu"] == 0.25
    assert found["embed"]["history"] == history


def test_of_the_retrieved_a_few_are_shown_and_all_counted() -> None:
    texts = [f"{'long ' * 200}{i}" for i in range(9)]
    retrieved = Retrieved(np.arange(9), np.linspace(1, 0.2, 9), texts)
    found = subdomain_facts(retrieved)
    assert len(found["documents"]) == 5
    assert all(len(text) == 400 for text in found["documents"])
    assert found["stats"]["documents"] == 9
    assert found["stats"]["best score"] > found["stats"]["last score"]
