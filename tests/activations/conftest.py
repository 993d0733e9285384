"""Fixtures for reading activations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tiny_text_models import TEXTS, make_tiny_model

from ssae_debias.activations import TextModel


@pytest.fixture
def tiny_model() -> Callable[..., TextModel]:
    """Make a tiny model of any family: see `make_tiny_model`."""
    return make_tiny_model


@pytest.fixture
def texts() -> list[str]:
    return list(TEXTS)
