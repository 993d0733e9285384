"""One training step: the gradient of an SAE's objective, in two interchangeable ways.

`DenseStep` is the objective as one would write it, differentiated by autograd; it serves every architecture and
is the reference. `SparseStep` serves TopK and BatchTopK: it computes the same gradients by hand and, but for the
encoder's product, touches only the latents that are active.

A step fills the ``.grad`` of an SAE's parameters and returns what it saw; it updates nothing. What it minimises,
for n tokens in the trainer's unit, is

    Σ_i w_i · (‖x_i − x̂_i‖² + penalty_i)  +  α · AuxK,

where the weights w come from the tilted risk (`ssae_debias.sae.tilted_risk`), the penalty belongs to ReLU and
JumpReLU, and AuxK revives dead latents (`ssae_debias.sae.steps.revival`).

Where several ranks share a batch (`ssae_debias.ranks`), each steps on its rows. What the batch decides as a whole
(the weights, BatchTopK's cut, which tokens AuxK looks at) is agreed on within the step; the gradients, and what it
returns, are each rank's own: their sums over the ranks are those of the whole batch.
"""

from __future__ import annotations

from ssae_debias.ranks import ALONE, Ranks
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.steps.dense import DenseStep
from ssae_debias.sae.steps.result import Step, StepResult, WeighLosses
from ssae_debias.sae.steps.sparse import SparseStep

__all__ = ["DenseStep", "SparseStep", "Step", "StepResult", "WeighLosses", "make_step"]


def make_step(config: SAEConfig, ranks: Ranks = ALONE) -> Step:
    """The fastest step that serves an architecture.

    Examples
    --------
    >>> type(make_step(SAEConfig(d_sae=64))).__name__
    'SparseStep'
    >>> type(make_step(SAEConfig(d_sae=64, architecture="relu"))).__name__
    'DenseStep'
    """
    step = SparseStep if config.architecture in ("topk", "batchtopk") else DenseStep
    return step(config, ranks)
