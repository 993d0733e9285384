"""A sparse autoencoder: activations written as a few directions out of a large dictionary.

    p = (x − b_dec) W_enc + b_enc        pre-activations, one per latent
    z = relu(p) · [p > threshold]        the code: few latents are active
    x̂ = z W_dec + b_dec                  the reconstruction

Row j of ``W_dec`` is the direction that latent j writes, of norm 1, so that ``z_j`` is a length in the
activations' own unit. ``x − x̂`` is the *error term*: what the dictionary does not say. Since a latent's value
depends on its own column of ``W_enc`` alone, a few latents can be read without computing the others
(`SparseAutoencoder.encode_selected`).

Some released dictionaries normalise each token first (`ssae_debias.sae.normalization`): with x ≈ s·u + m they
code u and bring its reconstruction back,

    z = s · code(u)                      x̂ = z W_dec + s·b_dec + m

so that a code is in the activations' own unit here too, and setting a latent moves x̂ along its row all the same.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.normalization import Normalization, normalize_tokens
from ssae_debias.sae.sparsity import threshold_relu, topk


class SparseAutoencoder(nn.Module):
    """Encoder, decoder and per-latent thresholds.

    A new one has random unit-norm decoder rows and their transpose as encoder (Gao et al. 2024, appendix A.1),
    zero biases and zero thresholds; `ssae_debias.sae.train_sae` trains it.

    Parameters
    ----------
    d_in : int
        Width of the activations.
    config : SAEConfig
        Number of latents, architecture and how it is trained.
    apply_b_dec_to_input : bool, default True
        Whether ``b_dec`` is subtracted before encoding. Some released dictionaries (Gemma Scope) do not.
    top_k : int, optional
        Keep each token's `top_k` largest latents instead of those above a threshold: the form of released TopK
        dictionaries, which carry no thresholds.
    normalization : {"none", "constant_norm", "layer_norm"}, default "none"
        What is done to each token before encoding and undone in the reconstruction; only released dictionaries
        have any (see `ssae_debias.sae.normalization`).
    metadata : dict, optional
        Where the activations came from (model, site, …); saved with the weights, JSON values only.
    random_state : int, default 0
        Seed of the decoder's directions.

    Attributes
    ----------
    W_enc : Parameter of shape (d_in, d_sae)
        Stored latent by latent (column-major): reading or updating a few latents touches contiguous memory.
    W_dec : Parameter of shape (d_sae, d_in)
        The dictionary.
    b_enc, threshold : Parameter of shape (d_sae,)
    b_dec : Parameter of shape (d_in,)
    history_ : list of dict
        Training records (see `train_sae`); empty when untrained or loaded.

    References
    ----------
    Cunningham et al.: "Sparse Autoencoders Find Highly Interpretable Features in Language Models", 2023.
    Rajamanoharan et al.: "Jumping Ahead", 2024 (the threshold form).

    Examples
    --------
    >>> import torch
    >>> sae = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4))
    >>> z = sae.encode(torch.randn(5, 8))
    >>> z.shape, sae.decode(z).shape
    (torch.Size([5, 32]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        d_in: int,
        config: SAEConfig,
        *,
        apply_b_dec_to_input: bool = True,
        top_k: int | None = None,
        normalization: Normalization = "none",
        metadata: dict[str, Any] | None = None,
        random_state: int = 0,
    ) -> None:
        super().__init__()
        self.d_in = int(d_in)
        self.d_sae = config.d_sae
        self.config = config
        self.apply_b_dec_to_input = apply_b_dec_to_input
        self.top_k = top_k
        self.normalization = normalization
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.history_: list[dict[str, float]] = []
        generator = torch.Generator().manual_seed(random_state)
        directions = torch.randn(self.d_sae, self.d_in, generator=generator)
        directions /= directions.norm(dim=1, keepdim=True)
        self.W_dec = nn.Parameter(directions)
        self.W_enc = nn.Parameter(directions.clone().t())
        self.b_enc = nn.Parameter(torch.zeros(self.d_sae))
        self.b_dec = nn.Parameter(torch.zeros(self.d_in))
        self.threshold = nn.Parameter(
            torch.zeros(self.d_sae), requires_grad=config.architecture == "jumprelu"
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.W_dec.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' floating type."""
        return self.W_dec.dtype

    def pre_activations(self, x: Tensor) -> Tensor:
        """``p`` of shape (n, d_sae) for activations of shape (n, d_in), in the unit that the encoder works in."""
        return self._encoder_input(x)[0] @ self.W_enc + self.b_enc

    def encode(self, x: Tensor) -> Tensor:
        """The code ``z`` of shape (n, d_sae) for activations of shape (n, d_in)."""
        x, scale = self._encoder_input(x)
        p = x @ self.W_enc + self.b_enc
        z = threshold_relu(p, self.threshold) if self.top_k is None else topk(p, self.top_k)
        return z if scale is None else z * scale

    def encode_selected(self, x: Tensor, latents: Tensor | np.ndarray | list[int]) -> Tensor:
        """The columns `latents` of `encode`, computed from those latents' weights alone.

        Parameters
        ----------
        x : Tensor of shape (n, d_in)
            Activations.
        latents : sequence of int
            Latent numbers, from 0.

        Returns
        -------
        Tensor of shape (n, len(latents))

        Raises
        ------
        IndexError
            A latent outside the dictionary.

        Examples
        --------
        >>> import torch
        >>> sae, x = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4)), torch.randn(5, 8)
        >>> torch.allclose(sae.encode_selected(x, [3, 7]), sae.encode(x)[:, [3, 7]], atol=1e-6)
        True
        """
        chosen = torch.as_tensor(latents, dtype=torch.long, device=self.device)
        if chosen.numel() and not (int(chosen.min()) >= 0 and int(chosen.max()) < self.d_sae):
            raise IndexError(f"latents must lie in 0 … {self.d_sae - 1}, got {latents!r}.")
        if self.top_k is not None:
            # which latents are a token's largest is known only once all are
            return self.encode(x)[:, chosen]
        x, scale = self._encoder_input(x)
        p = x @ self.W_enc.t()[chosen].t() + self.b_enc[chosen]
        z = threshold_relu(p, self.threshold[chosen])
        return z if scale is None else z * scale

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """The reconstruction of shape (n, d_in) for codes of shape (n, d_sae).

        Parameters
        ----------
        z : Tensor of shape (n, d_sae)
        x : Tensor of shape (n, d_in), optional
            The activations coded; needed where the SAE normalises each token, whose scale and mean it takes up
            again, and not looked at elsewhere.

        Raises
        ------
        ValueError
            The SAE normalises each token and `x` is not given.
        """
        return z @ self.W_dec + self.baseline(x)

    def baseline(self, x: Tensor | None = None) -> Tensor:
        """What is reconstructed where no latent is active: ``b_dec``, or of shape (n, d_in) for each token.

        Parameters and errors are those of `decode`.
        """
        if self.normalization == "none":
            return self.b_dec
        if x is None:
            raise ValueError(
                f"this SAE normalises each token (normalization={self.normalization!r}): codes alone do not say "
                "what it reconstructs. Give the activations too."
            )
        _, scale, shift = normalize_tokens(x, self.normalization)
        return self.b_dec * scale + shift

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of activations of shape (n, d_in)."""
        return self.decode(self.encode(x), x)

    def _encoder_input(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What ``W_enc`` is applied to, and each token's scale where there is one."""
        scale = None
        if self.normalization != "none":
            x, scale, _ = normalize_tokens(x, self.normalization)
        return (x - self.b_dec if self.apply_b_dec_to_input else x), scale

    @torch.no_grad()
    def normalize_decoder_(self) -> SparseAutoencoder:
        """Give every decoder row norm 1 and its encoder the length it had; the reconstruction stays the same.

        A row of zeros is left as it is. A TopK dictionary ranks by the rescaled values from then on.
        """
        norms = self.W_dec.norm(dim=1)
        norms[norms == 0] = 1
        self.W_dec.div_(norms[:, None])
        for part in (self.W_enc, self.b_enc, self.threshold):
            part.mul_(norms)
        return self

    @torch.no_grad()
    def rescale_(self, factor: float) -> SparseAutoencoder:
        """Make the SAE act on activations `factor` times as large: ``sae'(factor · x) = factor · sae(x)``.

        All parts are homogeneous, so only the biases and thresholds change; directions and their norms stay. An
        SAE that normalises each token acts alike at every scale already and is returned as it is.

        Examples
        --------
        >>> import torch
        >>> sae, x = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4)), torch.randn(5, 8)
        >>> before = sae(x)
        >>> torch.allclose(sae.rescale_(10.0)(10 * x), 10 * before, atol=1e-5)
        True
        """
        if self.normalization == "none":
            for part in (self.b_enc, self.b_dec, self.threshold):
                part.mul_(factor)
        return self

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write a SAELens-format directory with a manifest; see `ssae_debias.sae.formats.save_sae`."""
        from ssae_debias.sae.formats import save_sae

        save_sae(self, path)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        folder: str | None = None,
        private: bool = True,
        revision: str | None = None,
        commit_message: str | None = None,
        token: str | None = None,
    ) -> str:
        """Push to the Hugging Face hub and return the id to load from; see `ssae_debias.sae.push_sae`."""
        from ssae_debias.sae.formats import push_sae

        return push_sae(
            self,
            repo_id,
            folder=folder,
            private=private,
            revision=revision,
            commit_message=commit_message,
            token=token,
        )

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **options: Any) -> SparseAutoencoder:
        """Read an SAE in any of the released formats; see `ssae_debias.sae.formats.load_sae`."""
        from ssae_debias.sae.formats import load_sae

        return load_sae(path, **options)

    def extra_repr(self) -> str:
        """What `print` shows."""
        form = f"top_k={self.top_k}" if self.top_k is not None else "threshold"
        if self.normalization != "none":
            form += f", normalization={self.normalization!r}"
        return f"d_in={self.d_in}, d_sae={self.d_sae}, architecture={self.config.architecture!r}, {form}"
