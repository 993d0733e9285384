"""Data with a planted attribute, classifiers that lean on it, and what an audit makes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from ssae_debias.audit import ModuleClassifier
from ssae_debias.audit.found import Found
from ssae_debias.audit.groups import Groups
from ssae_debias.latents import PooledLatents
from ssae_debias.sae import SAEConfig, SparseAutoencoder


class Planted(NamedTuple):
    """Column 0 carries the label, column 1 the attribute, the others nothing."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    a: NDArray[np.int64]


def planted(n: int = 600, *, seed: int = 0, noise: float = 0.3) -> Planted:
    random = np.random.default_rng(seed)
    y, a = random.integers(2, size=(2, n))
    X = random.normal(0, noise, (n, 8)) + np.outer(y, np.eye(8)[0]) + np.outer(a, np.eye(8)[1])
    return Planted(X.astype("float32"), y, a)


def other_attribute(data: Planted) -> NDArray[np.float32]:
    """The same rows with the attribute turned round."""
    other = data.X.copy()
    other[:, 1] += 1 - 2 * data.a
    return other


def leaning_pipeline(data: Planted) -> Pipeline:
    """Trained where label and attribute are the same, so that it decides by both."""
    rows = data.y == data.a
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(data.X[rows], data.y[rows])


def leaning_network(data: Planted, seed: int = 0) -> nn.Sequential:
    """The same as a small network."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    rows = data.y == data.a
    x, y = torch.from_numpy(data.X[rows]), torch.from_numpy(data.y[rows])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network.eval()


def read_as_is(classes: tuple[str, ...] = ("no", "yes"), d: int = 8) -> ModuleClassifier:
    """A classifier whose site is its input: its logits are the first columns."""
    linear = nn.Linear(d, len(classes), bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(d)[: len(classes)])
    return ModuleClassifier(nn.Sequential(nn.Identity(), linear), "0", classes=classes)


def named_groups(values: Any, *, source: Any = "labels", side: Any = None) -> Groups:
    """Groups by name; "" is not known."""
    names = np.array(values).astype(str)
    sides = np.zeros(len(names), dtype=np.int64) if side is None else np.asarray(side)
    return Groups(names, names != "", source, sides)


def identity_sae(d: int, site_scale: float = 1.0) -> SparseAutoencoder:
    """An SAE whose latents are the columns themselves, each as active as its column is above 0."""
    sae = SparseAutoencoder(d, SAEConfig(d_sae=d, k=d, architecture="relu"))
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(d))
        sae.W_dec.copy_(torch.eye(d))
        sae.b_enc.zero_()
        sae.b_dec.zero_()
        sae.threshold.zero_()
    return sae


def found_with(
    table: Any, *, site: str = "module:0", d: int = 8, residue: Any = None, pooled: Any = None
) -> Found:
    """What was found, made by hand: the latents are the columns of the site."""
    values = np.zeros((4, d), dtype=np.float32) if pooled is None else pooled
    latents = PooledLatents(values, np.ones(d), np.ones(d), np.ones(d), len(values))
    return Found(
        table=table,
        saes={site: identity_sae(d)},
        centers={site: np.zeros(d)},
        mode="zero",
        residue=residue or {},
        residue_site=site,
        pooled={site: latents},
        examples={},
    )
