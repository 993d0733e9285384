"""`ActivationDebiaser`: the method on a 2-D array, as a plain scikit-learn transformer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ssae_debias.data import check_aligned, check_sensitive, warn_if_determined
from ssae_debias.decisions import Decisions
from ssae_debias.edit import Edit, edit_flagged, edit_latents
from ssae_debias.latents import FlagRule, PooledLatents, evidence_table, overrule
from ssae_debias.latents.decisions import checked
from ssae_debias.sae import SAEConfig, train_sae

# an array is the only site that there is
SITE = "X"


class ActivationDebiaser(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Remove an attribute from the rows of an array by editing SAE latents.

    For activations that somebody else computed (embeddings, a vision model's activations, tabular hidden states).
    A sparse autoencoder is trained on the rows with a tilted risk, the latents that carry the attribute are
    flagged, and `transform` edits them and nothing else. The attribute is never needed at `transform`.

    Parameters
    ----------
    d_sae : int or None, default=None
        Number of latents; None takes 8 times the array's width, a usual expansion for small dictionaries.
    k : int or None, default=None
        Mean number of active latents per row; None takes a sixteenth of the width, at least 4 (and at most
        `d_sae`).
    architecture : {"batchtopk", "topk", "relu", "jumprelu"}, default="batchtopk"
        The SAE's sparsity; see `SAEConfig`.
    tilt : float, default=0.3
        Tilt of the risk (TERM): 0 trains on the mean error, larger values attend to badly reconstructed rows,
        where rare concepts are.
    n_samples_seen : int, default=500_000
        Rows that training passes over in all; small arrays are gone through many times.
    flag : {"association", "counterfactual", "both"}, default="association"
        `association` needs `sensitive_features` (and y, where the attribute goes with the label);
        `counterfactual` needs `X_counterfactual`.
    min_effect, max_q, max_latents
        See `FlagRule`.
    protect : float or None, default=1.0
        Where y and the attribute are both given, keep a latent whose label effect exceeds `protect` times its
        attribute effect: on confounded data an SAE merges concepts that go together, and ablating such a
        latent would ablate the task.
    edit : {"zero", "mean", "clamp", "project"}, default="zero"
        What is done with flagged latents; see `edit_latents`.
    missing : {"error", "drop", "keep"}, default="error"
        What `fit` does with missing values of `sensitive_features`: refuse them, leave their rows out of the
        association, or take them as a value of their own.
    device : str, default="cpu"
        Where torch computes.
    random_state : int, RandomState or None, default=None
        Seed of the SAE.
    verbose : int, default=0
        Above 0, training shows its progress.

    Attributes
    ----------
    sae_ : SparseAutoencoder
    flagged_ : DataFrame
        One row a latent: evidence, decision and reason, strongest first.
    edit_ : Edit
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only for a DataFrame with string columns.

    Examples
    --------
    >>> import numpy as np
    >>> from ssae_debias import ActivationDebiaser
    >>> rng = np.random.default_rng(0)
    >>> y, a = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    >>> X = rng.normal(0, 0.1, (400, 12)) + np.outer(y, np.eye(12)[0]) + np.outer(a, np.eye(12)[1])
    >>> debiaser = ActivationDebiaser(n_samples_seen=50_000, random_state=0)
    >>> edited = debiaser.fit(X, y, sensitive_features=a).transform(X)
    >>> gap = lambda X: abs(X[a == 1].mean(0) - X[a == 0].mean(0)).max()
    >>> bool(gap(edited) < gap(X) / 2)
    True
    """

    def __init__(
        self,
        *,
        d_sae: int | None = None,
        k: int | None = None,
        architecture: Literal["batchtopk", "topk", "relu", "jumprelu"] = "batchtopk",
        tilt: float = 0.3,
        n_samples_seen: int = 500_000,
        flag: Literal["association", "counterfactual", "both"] = "association",
        min_effect: float = 0.2,
        max_q: float = 0.01,
        max_latents: int | None = None,
        protect: float | None = 1.0,
        edit: Literal["zero", "mean", "clamp", "project"] = "zero",
        missing: Literal["error", "drop", "keep"] = "error",
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.d_sae = d_sae
        self.k = k
        self.architecture = architecture
        self.tilt = tilt
        self.n_samples_seen = n_samples_seen
        self.flag = flag
        self.min_effect = min_effect
        self.max_q = max_q
        self.max_latents = max_latents
        self.protect = protect
        self.edit = edit
        self.missing = missing
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sensitive_features: ArrayLike | None = None,
        X_counterfactual: ArrayLike | None = None,
    ) -> Self:
        """Train the SAE and flag the latents that carry the attribute.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), optional
            Label. With it, association is taken within each class, so that the task is not blamed.
        sensitive_features : array-like of shape (n_samples,), optional
            Attribute; any number of values. Several columns are crossed.
        X_counterfactual : array-like of shape (n_samples, n_features), optional
            The same rows with only the attribute changed. With a binary `sensitive_features`, each row's
            value says which way; without, X is taken as one side and X_counterfactual as the other.

        Returns
        -------
        self

        Warns
        -----
        UserWarning
            Neither attribute nor counterfactual was given: nothing is flagged and `transform` changes nothing.
            Or the attribute determines y.

        Raises
        ------
        ValueError
            NaN or infinite values, lengths or indices that differ, a constant attribute.
        """
        rows = validate_data(self, X, dtype=(np.float64, np.float32))
        check_aligned(X=X, y=y, sensitive_features=sensitive_features, X_counterfactual=X_counterfactual)
        rule = self._rule()
        config = self._config(rows.shape[1])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        label = None if y is None else np.asarray(y)
        attribute, known = None, np.ones(len(rows), dtype=bool)
        if sensitive_features is not None:
            values, known = check_sensitive(sensitive_features, len(rows), missing=self.missing)
            warn_if_determined(None if label is None else label[known], values)
            attribute = np.empty(len(rows), dtype=object)
            attribute[known] = values
        other, side = self._counterfactual(X_counterfactual, attribute, known)
        # all input is checked by now: training is what takes long
        self.sae_ = train_sae(
            rows.astype(np.float32), config, random_state=seed, device=self.device, verbose=self.verbose
        ).cpu()
        latents = self._latents(rows)
        swapped = None if other is None else {SITE: self._latents(other)}
        evidence = evidence_table(
            {SITE: latents}, swapped=swapped, side=side, y=label, sensitive_features=attribute, known=known
        ).drop(columns="site")
        if attribute is None and swapped is None:
            warnings.warn(
                "Neither sensitive_features nor X_counterfactual was given: no latent is flagged, and transform "
                "will change nothing.",
                stacklevel=2,
            )
            self.flagged_ = evidence.assign(decision="keep", reason="no attribute was given")
        else:
            if not {"label_effect", "attribute_effect"} <= set(evidence.columns):
                rule = replace(rule, protect=None)
            self.flagged_ = rule.decide(evidence.assign(site=SITE)).drop(columns="site")
        self._center = rows.mean(axis=0)
        self._set_edit()
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Edit rows; the attribute is not needed.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In the dtype of X (float32 or float64).
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        with torch.no_grad():
            return self.edit_(torch.from_numpy(np.array(rows))).numpy()

    def set_decisions(self, decisions: Mapping[int, str] | Decisions | str | os.PathLike[str]) -> Self:
        """Overrule the rule by a person's decisions.

        Parameters
        ----------
        decisions : mapping of int to {"ablate", "keep"}, Decisions or path
            By latent; in a file of decisions, an array's latents stand at the site ``"X"``.

        Raises
        ------
        ValueError
            The decisions were made about another SAE, or on a latent that there is not.

        Examples
        --------
        >>> import numpy as np
        >>> from ssae_debias import ActivationDebiaser
        >>> X, a = np.random.default_rng(0).normal(size=(60, 6)), np.arange(60) % 2
        >>> debiaser = ActivationDebiaser(n_samples_seen=2000, random_state=0).fit(X, sensitive_features=a)
        >>> debiaser.set_decisions({0: "ablate"}).flagged_.query("latent == 0").decision.item()
        'ablate'
        """
        check_is_fitted(self)
        made = checked(decisions, {SITE: self.sae_})
        by_site = made if isinstance(made, Decisions) else {(SITE, j): word for j, word in made.items()}
        table = overrule(self.flagged_.assign(site=SITE), by_site)
        self.flagged_ = table.drop(columns="site")
        self._set_edit()
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "edit_")

    def _rule(self) -> FlagRule:
        if self.flag not in ("association", "counterfactual", "both"):
            raise ValueError(f"flag must be association, counterfactual or both; got {self.flag!r}.")
        return FlagRule(
            rule=self.flag,
            min_effect=self.min_effect,
            max_q=self.max_q,
            max_latents=self.max_latents,
            protect=self.protect,
        )

    def _config(self, width: int) -> SAEConfig:
        d_sae = 8 * width if self.d_sae is None else self.d_sae
        k = min(max(4, width // 16), d_sae) if self.k is None else self.k
        return SAEConfig(
            d_sae=d_sae,
            k=k,
            architecture=self.architecture,
            tilt=self.tilt,
            n_tokens=self.n_samples_seen,
            batch_size=512,
        )

    def _latents(self, rows: NDArray[Any]) -> PooledLatents:
        with torch.no_grad():
            chunks = (rows[i : i + 8192].astype(np.float32) for i in range(0, len(rows), 8192))
            pooled = np.concatenate([self.sae_.encode(torch.from_numpy(chunk)).numpy() for chunk in chunks])
        active = (pooled > 0).sum(axis=0)
        total = pooled.sum(axis=0, dtype=np.float64)
        return PooledLatents(
            pooled=pooled,
            frequency=active / len(rows),
            mean_active=total / np.maximum(active, 1),
            mean=total / len(rows),
            n_tokens=len(rows),
        )

    def _counterfactual(
        self, X_counterfactual: ArrayLike | None, attribute: NDArray[Any] | None, known: NDArray[np.bool_]
    ) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        if X_counterfactual is None:
            return None, None
        other = validate_data(self, X_counterfactual, dtype=(np.float64, np.float32), reset=False)
        if attribute is None:
            return other, np.ones(len(known))
        values = np.unique(attribute[known])
        if len(values) != 2:
            raise ValueError(
                f"With X_counterfactual the attribute must have two values to tell which way rows changed; it "
                f"has {len(values)}: {values[:5]}."
            )
        return other, np.where(known, np.where(attribute == values[1], 1, -1), 0)

    def _set_edit(self) -> None:
        table = self.flagged_.assign(site=SITE)
        nothing = edit_latents(self.sae_, [])
        self.edit_: Edit = edit_flagged(table, {SITE: self.sae_}, self.edit, {SITE: self._center}).get(
            SITE, nothing
        )
