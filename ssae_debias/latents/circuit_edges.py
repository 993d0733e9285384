r"""Edges of a circuit: how one node moves the decision by way of another.

With m the metric (the negative margin, as in `ssae_debias.latents.attribution`), u a node at one site and v a node at
a later one, the effect of zeroing u by way of v is estimated as

.. math:: \mathrm{effect}_{u \to v}
   = \mathbb{E}\Big[\sum_{s,t} \frac{\partial m}{\partial v_t}\,
     \frac{\partial v_t}{\partial u_s}\,(0 - u_s)\Big]

over the tokens s and t, in the unit of m: the gradient of the downstream node times the change of the upstream one,
weighted by what the downstream node is worth. ``∂m/∂v`` is the whole gradient; ``∂v/∂u`` is the *direct* one, along
paths that pass through no other site between: what u does to v by way of a third site stands in the edges of that
one. The error term is a node like a latent, a vector in place of a number. The last edges lead to the decision.

Since the nodes of a site add up to its activation, the edges from u to all nodes of the next site add up to u's own
effect: nothing is lost, but for nodes left out of the circuit. (Not so where a dictionary normalises each token: its
baseline is no node.)

References
----------
Marks et al.: "Sparse Feature Circuits", 2025, section 3.1 and the appendix on edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssae_debias.activations import TextModel, resolve_site
from ssae_debias.latents.attribution import Decision
from ssae_debias.latents.circuit_ablation import Kept
from ssae_debias.latents.circuit_batches import DecisionBatch
from ssae_debias.latents.dictionary import Dictionary

DECISION = "decision"
"""The node that all paths end in."""


def node_name(site: str, latent: int | None) -> str:
    """What a node is called: its site and latent, or its site's error term (None).

    Examples
    --------
    >>> node_name("resid.3", 17), node_name("resid.3", None)
    ('resid.3/17', 'resid.3/error')
    """
    return f"{site}/{'error' if latent is None else latent}"


def edge_effects(
    model: TextModel,
    saes: Mapping[str, Dictionary],
    nodes: Kept,
    batches: Iterable[DecisionBatch],
    decision: Decision,
) -> pd.DataFrame:
    """Effects of all edges between some nodes, averaged over texts.

    One backward pass for each downstream node and batch, which goes no further than the sites before it.

    Parameters
    ----------
    model, saes, decision
        As in `attribute_decision`.
    nodes : mapping of str to ndarray of bool, shape (d_sae + 1,)
        By site: the latents that are nodes, and last whether the error term is.
    batches : iterable of DecisionBatch

    Returns
    -------
    DataFrame
        A row for each pair of nodes at two sites, earlier and later, and for each node and the decision: `upstream`,
        `downstream`, `effect`. Positive: zeroing the upstream node hurts the decision by this way.
    """
    order = sorted(saes, key=lambda site: resolve_site(model.module, site).order)
    latents = {site: np.flatnonzero(nodes[site][:-1]) for site in order}
    names = {
        site: [node_name(site, int(i)) for i in latents[site]]
        + ([node_name(site, None)] if nodes[site][-1] else [])
        for site in order
    }
    sums: dict[tuple[str, str], NDArray[np.float64]] = {}
    n_texts = 0
    for batch in batches:
        n_texts += len(batch.rows)
        total, seen = _total_gradients(model, order, batch, decision)
        leaves, met, margins = _cut(model, [site for site in order if site in seen], batch, decision)
        node = {site: _Nodes(saes[site], latents[site], bool(nodes[site][-1])) for site in leaves}
        change = {site: node[site].values(seen[site]) for site in leaves}
        targets: list[tuple[str, str, Tensor]] = [(DECISION, DECISION, -margins.sum())]
        for site in leaves:
            if met[site].requires_grad and names[site]:
                worth = node[site].weighted(met[site], total[site])
                targets += [(site, name, one) for name, one in zip(names[site], worth, strict=True)]
        for site, name, value in targets:
            before = [up for up in leaves if (site == DECISION or order.index(up) < order.index(site))]
            before = [up for up in before if names[up]]
            if not before or not value.requires_grad:
                continue
            gradients = torch.autograd.grad(
                value, [leaves[up] for up in before], retain_graph=True, allow_unused=True
            )
            for up, gradient in zip(before, gradients, strict=True):
                if gradient is not None:
                    found = node[up].change_along(gradient, change[up])
                    sums[up, name] = sums.get((up, name), 0) + found
    rows = [
        (upstream, downstream, effect)
        for (site, downstream), effects in sums.items()
        for upstream, effect in zip(names[site], effects / max(n_texts, 1), strict=True)
    ]
    return pd.DataFrame(rows, columns=["upstream", "downstream", "effect"]).astype({"effect": np.float64})


class _Nodes:
    """The nodes of one site: some latents, and the error term if asked for."""

    def __init__(self, sae: Dictionary, latents: NDArray[np.int64], error: bool) -> None:
        self.sae, self.error = sae, error
        self.latents = torch.from_numpy(latents).to(sae.W_dec.device)
        self.decoder = sae.W_dec.detach()[self.latents]

    def values(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes of the nodes (b, length, m), and the error term (b, length, d_model)."""
        x = x.to(self.sae.W_dec)
        if not self.error:
            selected = getattr(self.sae, "encode_selected", None)
            # a few columns of the encoder instead of all
            return (
                self.sae.encode(x)[..., self.latents] if selected is None else selected(x, self.latents)
            ), None
        z = self.sae.encode(x)
        return z[..., self.latents], x - (z @ self.sae.W_dec + self.sae.baseline(x))

    def weighted(self, x: Tensor, gradient: Tensor) -> list[Tensor]:
        """For each node, its value times what the metric gains by it, summed over tokens: differentiable in x."""
        gradient = gradient.to(self.sae.W_dec)
        z, error = self.values(x)
        worth = ((gradient @ self.decoder.T) * z).flatten(0, -2).sum(0)
        return [*worth] + ([] if error is None else [(gradient * error).sum()])

    def change_along(self, gradient: Tensor, clean: tuple[Tensor, Tensor | None]) -> NDArray[np.float64]:
        """What zeroing each node changes along a gradient with respect to x."""
        gradient, (z, error) = gradient.to(self.sae.W_dec), clean
        effect = -((gradient @ self.decoder.T) * z).flatten(0, -2).sum(0)
        if error is not None:
            effect = torch.cat([effect, -(gradient * error).sum()[None]])
        return effect.detach().double().cpu().numpy()


def _total_gradients(
    model: TextModel, sites: list[str], batch: DecisionBatch, decision: Decision
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradient of the metric with respect to each site's activations, through all that follows; and these."""
    added: dict[str, Tensor] = {}
    clean: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.enable_grad():
        for site in sites:

            def hook(x: Tensor, site: str = site) -> Tensor:
                clean[site] = x.detach()
                added[site] = torch.zeros_like(x, requires_grad=True)
                return x + added[site]

            hooks.enter_context(resolve_site(model.module, site).attach(hook))
        metric = -batch.margins(model, decision).sum()
        found = torch.autograd.grad(metric, list(added.values()), allow_unused=True) if added else ()
    # a site that the decision does not look at has no part in it
    return {
        site: torch.zeros_like(clean[site]) if gradient is None else gradient
        for site, gradient in zip(added, found, strict=True)
    }, clean


def _cut(
    model: TextModel, sites: list[str], batch: DecisionBatch, decision: Decision
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Run with the graph cut at every site: a fresh leaf goes on from there, what came in is kept as well."""
    leaves: dict[str, Tensor] = {}
    met: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.enable_grad():
        for site in sites:

            def hook(x: Tensor, site: str = site) -> Tensor:
                met[site] = x
                leaves[site] = x.detach().requires_grad_()
                return leaves[site]

            hooks.enter_context(resolve_site(model.module, site).attach(hook))
        margins = batch.margins(model, decision)
    return leaves, met, margins
