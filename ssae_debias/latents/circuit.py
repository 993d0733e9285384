r"""The circuit behind a decision: which latents it runs through, and how one acts on the next.

Nodes are the latents of every site and each site's error term. A node belongs to the circuit if zeroing it is
estimated to change the decision's metric by at least T_N, in absolute value; an edge between two nodes, if the part of
that change which goes directly from the one through the other is at least T_E. With m(C) the mean margin when all
nodes outside C are set to their means, m(M) that of the whole model and m(∅) that with every node ablated:

.. math::

   \mathrm{faithfulness} = \frac{m(C) - m(\emptyset)}{m(M) - m(\emptyset)} \qquad
   \mathrm{completeness} = \frac{m(M \setminus C) - m(\emptyset)}{m(M) - m(\emptyset)}

A circuit that explains the decision has a faithfulness near 1 and, since nothing that matters is outside it, a
completeness near 0. (The name is the paper's, though less is better; some write ``1 −`` it.) Faithfulness may exceed 1:
a circuit can do better than the model when what is outside works against it.

Thresholds are in units of the metric, a logit: they mean little on a probe whose logits are of another size. The
defaults are the paper's for its Bias in Bios classifier.

What is ours: means are taken for special tokens apart (`ssae_debias.latents.circuit_ablation`); gradients of edges
are taken at the clean activations, also where nodes are attributed by integrated gradients.

References
----------
Marks et al.: "Sparse Feature Circuits: Discovering and Editing Interpretable Causal Graphs in Language Models",
ICLR 2025, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ssae_debias.activations import TextModel, resolve_site
from ssae_debias.latents.attribution import Decision, attribute_decision
from ssae_debias.latents.circuit_ablation import ablated_margins
from ssae_debias.latents.circuit_batches import decision_batches
from ssae_debias.latents.circuit_edges import edge_effects, node_name
from ssae_debias.latents.dictionary import Dictionary


@dataclass(frozen=True)
class Circuit:
    """Nodes, edges, and what they are worth.

    Attributes
    ----------
    nodes : DataFrame
        One row for each node, sites in forward order, the largest effects first: `node` (such as "resid.3/17" or
        "resid.3/error"), `site`, `latent` (missing for the error term), `effect`. Positive: zeroing the node hurts
        the decision.
    edges : DataFrame
        `upstream`, `downstream` (nodes, or "decision"), `effect`; the largest first.
    node_threshold, edge_threshold : float
        T_N and T_E.
    method : {"gradient", "integrated"}
        How nodes were attributed.
    n_nodes : int
        Nodes that there were to choose from, error terms included.
    margins : dict of str to ndarray of float64, shape (n_texts,)
        Each text's margin ``(2y − 1)·logit``: of the "model", of the "circuit" alone, of its "complement" alone, and
        with "nothing" left. For an interval, resample texts.
    """

    nodes: pd.DataFrame
    edges: pd.DataFrame
    node_threshold: float
    edge_threshold: float
    method: str
    n_nodes: int
    margins: dict[str, NDArray[np.float64]]

    @property
    def faithfulness(self) -> float:
        """``(m(C) − m(∅)) / (m(M) − m(∅))``; NaN where ablating everything changes nothing."""
        return share_of_margin(self.margins, "circuit")

    @property
    def completeness(self) -> float:
        """The same of all that is outside the circuit; near 0 where the circuit has all that matters."""
        return share_of_margin(self.margins, "complement")

    def kept(self, saes: Mapping[str, Dictionary]) -> dict[str, NDArray[np.bool_]]:
        """The nodes as `ablated_margins` takes them, to measure the circuit on other texts."""
        found = {site: np.zeros(sae.d_sae + 1, dtype=bool) for site, sae in saes.items()}
        for site, latent in zip(self.nodes["site"], self.nodes["latent"], strict=True):
            found[site][-1 if pd.isna(latent) else int(latent)] = True
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything by name, ready for JSON; None where a figure is undefined, or a latent (the error term's)."""
        ratios = {"faithfulness": self.faithfulness, "completeness": self.completeness}
        return {
            "node_threshold": self.node_threshold,
            "edge_threshold": self.edge_threshold,
            "method": self.method,
            "n_nodes": self.n_nodes,
            "n_texts": len(self.margins["model"]),
            **{name: value if np.isfinite(value) else None for name, value in ratios.items()},
            "nodes": [
                {**row, "latent": None if pd.isna(row["latent"]) else int(row["latent"])}
                for row in self.nodes.to_dict("records")
            ],
            "edges": self.edges.to_dict("records"),
            "margins": {name: values.tolist() for name, values in self.margins.items()},
        }


def share_of_margin(margins: Mapping[str, NDArray[np.float64]], name: str) -> float:
    """``(m(name) − m(nothing)) / (m(model) − m(nothing))`` of mean margins; NaN where the denominator is 0.

    Examples
    --------
    >>> share_of_margin({"model": np.array([3.0]), "nothing": np.array([1.0]), "circuit": np.array([2.0])}, "circuit")
    0.5
    """
    nothing = margins["nothing"].mean()
    whole = margins["model"].mean() - nothing
    return float((margins[name].mean() - nothing) / whole) if whole else float("nan")


def find_circuit(
    model: TextModel,
    saes: Mapping[str, Dictionary],
    texts: Sequence[str],
    y: ArrayLike,
    decision: Decision,
    *,
    node_threshold: float = 0.1,
    edge_threshold: float = 0.01,
    method: Literal["gradient", "integrated"] = "gradient",
    steps: int = 10,
    mean_texts: Sequence[str] | None = None,
    max_length: int = 128,
    batch_size: int = 16,
    verbose: int = 0,
) -> Circuit:
    """Find the nodes and edges that a decision runs through, and ablate all the rest.

    Parameters
    ----------
    model : TextModel
    saes : mapping of str to SparseAutoencoder or Neurons
        By site. Sites after the one that the decision reads have no part in it.
    texts : sequence of str
        Marks et al. use 100 texts of the ambiguous training set.
    y : array of {0, 1}, shape (n_texts,)
        The right answers.
    decision : Decision
        `ProbeDecision`, `ModelDecision`, or anything with their `logits` method.
    node_threshold, edge_threshold : float, default 0.1 and 0.01
        T_N and T_E: least absolute effect of a node and of an edge, averaged over texts, in logits.
    method : {"gradient", "integrated"}, default "gradient"
        How nodes are attributed; see `attribute_decision`. Marks et al. integrate.
    steps : int, default 10
        Points on the path of `integrated`.
    mean_texts : sequence of str, optional
        Texts that ablation takes its means from. Default: `texts`.
    max_length, batch_size, verbose
        As in `attribute_decision`.

    Returns
    -------
    Circuit

    Raises
    ------
    ValueError
        No SAEs, a negative threshold, another method, labels that are not 0 and 1, or no node that reaches the
        threshold (the message says what the largest effect is).

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.latents import ProbeDecision
    >>> from ssae_debias.sae import SAEConfig, SparseAutoencoder
    >>> saes = {site: SparseAutoencoder(384, SAEConfig(d_sae=16, k=4)) for site in ("embed", "resid.0")}
    >>> decision = ProbeDecision("resid.0", np.random.default_rng(0).normal(size=384), 0.0)
    >>> circuit = find_circuit(load_model("demo"), saes, ["A nurse.", "A judge sang."], [1, 0], decision)
    >>> sorted(circuit.nodes["site"].unique()), set(circuit.edges["downstream"]) >= {"decision", "resid.0/error"}
    (['embed', 'resid.0'], True)
    """
    if not saes or method not in ("gradient", "integrated") or min(node_threshold, edge_threshold) < 0:
        raise ValueError(
            "find_circuit needs SAEs, thresholds of at least 0 and method 'gradient' or 'integrated' (single nodes "
            f"are tried exactly by attribute_decision); got SAEs for {list(saes)}, {node_threshold}, "
            f"{edge_threshold}, {method!r}."
        )
    sizes: dict[str, Any] = {"max_length": max_length, "batch_size": batch_size}
    order = sorted(saes, key=lambda site: resolve_site(model.module, site).order)
    whole = {site: _WithError(saes[site]) for site in order}
    effects = {
        site: np.append(found[: saes[site].d_sae], found[saes[site].d_sae :].sum())
        for site, found in attribute_decision(
            model, whole, texts, y, decision, method=method, steps=steps, verbose=verbose, **sizes
        ).items()
    }
    kept = {site: np.abs(found) >= node_threshold for site, found in effects.items()}
    if not any(mask.any() for mask in kept.values()):
        largest = max(float(np.abs(found).max()) for found in effects.values())
        raise ValueError(
            f"No node changes the decision by node_threshold={node_threshold}; the largest effect is {largest:.3g}. "
            "Lower the threshold: it is in units of the decision's logit."
        )
    batches = decision_batches(model, texts, y, decision, **sizes)
    edges = edge_effects(model, {site: saes[site] for site in order}, kept, batches, decision)
    edges = edges[edges["effect"].abs() >= edge_threshold]
    complement = {site: ~mask for site, mask in kept.items()}
    everything = {site: mask | ~mask for site, mask in kept.items()}
    margins = ablated_margins(
        model, saes, texts, y, decision,
        {
            "model": everything,
            "circuit": kept,
            "complement": complement,
            "nothing": {site: ~mask for site, mask in everything.items()},
        },
        mean_texts=mean_texts, verbose=verbose, **sizes,
    )  # fmt: skip
    return Circuit(
        nodes=_node_table(effects, kept),
        edges=edges.sort_values("effect", key=np.abs, ascending=False, kind="stable", ignore_index=True),
        node_threshold=node_threshold,
        edge_threshold=edge_threshold,
        method=method,
        n_nodes=sum(len(mask) for mask in kept.values()),
        margins=margins,
    )


def _node_table(
    effects: Mapping[str, NDArray[np.float64]], kept: Mapping[str, NDArray[np.bool_]]
) -> pd.DataFrame:
    rows = []
    for site, mask in kept.items():
        chosen = np.flatnonzero(mask)
        for i in chosen[np.argsort(-np.abs(effects[site][chosen]), kind="stable")]:
            latent = None if i == len(mask) - 1 else int(i)
            rows.append((node_name(site, latent), site, latent, float(effects[site][i])))
    table = pd.DataFrame(rows, columns=["node", "site", "latent", "effect"])
    return table.astype({"latent": "Int64"})


class _WithError:
    """A dictionary with its error term's coordinates as further latents, so that one attribution has them all.

    A coordinate of the error writes a unit vector; the effects of all coordinates add up to the effect of the error.
    """

    def __init__(self, sae: Dictionary) -> None:
        self.sae = sae
        rows = sae.W_dec.detach()
        self.d_sae = sae.d_sae + rows.shape[1]
        self.W_dec = torch.cat([rows, torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)])

    def baseline(self, x: Tensor) -> Tensor:
        return self.sae.baseline(x)

    def encode(self, x: Tensor) -> Tensor:
        z = self.sae.encode(x)
        return torch.cat([z, x - (z @ self.sae.W_dec + self.sae.baseline(x))], -1)
