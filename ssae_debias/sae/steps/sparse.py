"""The sparse step: the same gradients as `DenseStep` for TopK and BatchTopK, at the price of the encoder.

With few of d_sae latents active, all but the encoder's product can be done on the active entries alone. Let Z be
the sparse codes, ``e = x − x̂`` the residual, w the tokens' weights and ``G = −2 w ∘ e`` the gradient at x̂. Then

    ∂/∂W_dec = Zᵀ G                      a product with the transposed codes
    ∂/∂Z     = G W_decᵀ where Z ≠ 0      a dot product per active entry; call it D
    ∂/∂W_enc = (x − b_dec)ᵀ D            again a product with transposed codes
    ∂/∂b_enc = Σ_i D_i
    ∂/∂b_dec = Σ_i G_i − W_enc ∂/∂b_enc  a matrix-vector product instead of a sixth large one

A step thus costs 2·d_in·d_sae + about 8·d_in·k multiplications a token where the dense one costs 12·d_in·d_sae.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssae_debias.ranks import ALONE, Ranks
from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.steps.codes import Buffers
from ssae_debias.sae.steps.result import StepResult, WeighLosses
from ssae_debias.sae.steps.revival import add_revival_gradients, wants_revival
from ssae_debias.sae.steps.selection import ActiveLatents


class SparseStep:
    """Hand-written gradients that touch active latents only.

    Parameters
    ----------
    config : SAEConfig
        Of architecture "topk" or "batchtopk".
    ranks : Ranks, default: alone
        Who shares a batch; each steps on its rows.

    Raises
    ------
    ValueError
        Another architecture: its gradients are not confined to k latents.

    Examples
    --------
    >>> import torch
    >>> config = SAEConfig(d_sae=32, k=4)
    >>> sae, x = SparseAutoencoder(8, config), torch.randn(16, 8)
    >>> result = SparseStep(config)(sae, x, lambda losses: torch.full_like(losses, 1 / 16))
    >>> result.n_active
    64
    """

    def __init__(self, config: SAEConfig, ranks: Ranks = ALONE) -> None:
        if config.architecture not in ("topk", "batchtopk"):
            raise ValueError(
                f"SparseStep serves topk and batchtopk, got {config.architecture!r}; use DenseStep."
            )
        self.config = config
        self.ranks = ranks
        self._buffers = Buffers()
        self._active_latents = ActiveLatents(config.k, per_token=config.architecture == "topk", ranks=ranks)

    @torch.no_grad()
    def __call__(
        self, sae: SparseAutoencoder, x: Tensor, weigh: WeighLosses, dead: Tensor | None = None
    ) -> StepResult:
        """See `ssae_debias.sae.steps.Step`."""
        centred = x - sae.b_dec
        to_encoder = centred if sae.apply_b_dec_to_input else x
        codes = self._active_latents(to_encoder, sae.W_enc, sae.b_enc)
        residual = centred - codes.times(sae.W_dec)
        losses = residual.square().sum(1)
        weights = weigh(losses)

        to_output = residual * (-2 * weights)[:, None]
        by_latent, _ = codes.transposed()
        # latent after latent, each decoder row is read once
        to_codes = by_latent.sampled_product(sae.W_dec, to_output)
        W_dec_grad, W_enc_grad = (
            self._buffers(name, (sae.d_sae, sae.d_in), x.dtype, x.device) for name in ("W_dec", "W_enc")
        )
        by_latent.times(to_output, out=W_dec_grad)
        by_latent.with_values(to_codes).times(to_encoder, out=W_enc_grad)
        b_enc_grad = torch.zeros_like(sae.b_enc).index_add_(0, by_latent.rows, to_codes)
        if dead is not None and wants_revival(self.config, dead):
            grads = (W_enc_grad, b_enc_grad, W_dec_grad)
            add_revival_gradients(
                sae.W_enc.t(),
                sae.b_enc,
                sae.W_dec,
                grads,
                to_encoder,
                residual,
                dead,
                self.config,
                self.ranks,
            )
        b_dec_grad = to_output.sum(0)
        if sae.apply_b_dec_to_input:
            b_dec_grad -= sae.W_enc @ b_enc_grad

        sae.W_enc.grad, sae.b_enc.grad = W_enc_grad.t(), b_enc_grad
        sae.W_dec.grad, sae.b_dec.grad = W_dec_grad, b_dec_grad
        fired = torch.zeros(sae.d_sae, dtype=torch.bool, device=x.device)
        fired[codes.columns] = True
        n_active = codes.values.numel()
        return StepResult(
            residual=residual,
            losses=losses,
            weights=weights,
            fired=fired,
            n_active=n_active,
            smallest_kept=float(codes.values.min()) if n_active else float("inf"),
        )
