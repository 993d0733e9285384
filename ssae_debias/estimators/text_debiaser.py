"""`SSAEDebiaser`: the whole method on texts, from a model and a description of the attribute to an edited model.

    texts → subdomain → activations → SAE at each site → evidence → flagged latents → edits → residue

Every arrow is a function of the folder of that name; this class only holds the settings and the order.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ssae_debias.activations import (
    ActivationStore,
    TextModel,
    load_model,
    resolve_sites,
    site_widths,
)
from ssae_debias.data import (
    WordPairs,
    as_word_pairs,
    check_aligned,
    check_labels,
    check_sensitive,
    check_texts,
    warn_if_determined,
)
from ssae_debias.decisions import Decisions
from ssae_debias.edit import Edit, compose, edit_flagged, spliced
from ssae_debias.edit.export import Exported
from ssae_debias.estimators.describing import describe_flagged
from ssae_debias.estimators.effect import EffectReport, measure_effect
from ssae_debias.estimators.fitting import (
    debias_sites,
    gather_evidence,
    given_saes,
    mean_activation,
    of_texts,
    sides_of,
)
from ssae_debias.estimators.pooled_cache import pooled_under_edits
from ssae_debias.estimators.residue import erasure, realignment
from ssae_debias.latents import FlagRule, check_namer, overrule
from ssae_debias.latents.decisions import checked
from ssae_debias.retrieval import Retrieved, retrieve_subdomain
from ssae_debias.sae import SAEConfig, SparseAutoencoder, train_sae

Pool = Literal["mean", "last", "cls"]


class SSAEDebiaser(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Find the latents of a text model that carry an attribute, and edit them inside the model.

    Parameters
    ----------
    model : str, path or transformers.PreTrainedModel, default="sentence-transformers/all-MiniLM-L6-v2"
        Folder, hub id or loaded model; `"demo"` is the MiniLM of the `demo` extra, without the hub.
    tokenizer : transformers tokenizer, optional
        For a loaded model whose tokenizer does not lie beside it.
    sites : "auto" or sequence of str, default="auto"
        Where SAEs are trained and edits made. `"auto"` takes `embed` and every residual site up to the one
        that is read: attention spreads an attribute from its words early, so it is met where it enters and
        again wherever it has gone.
    attribute : "gender", WordPairs, sequence of (str, str), path or None, default="gender"
        The attribute by its words: pairs of side 0 and side 1. None if only `sensitive_features` say it.
    sae : "train", path, or mapping of site to path or SparseAutoencoder, default="train"
        Train SAEs from scratch, or specialise given ones (GSAE → SSAE). A path holds one folder a site, or is a
        Sparse-Feature-Circuits release; each SAE may have any format that `load_sae` reads, and `hub:owner/name`
        is downloaded.
    corpus : sequence of str, path or None, default=None
        General text to retrieve the subdomain from. None trains on the texts given to `fit` alone.
    retriever : {"bm25", "dense", "bm25+tracin", "dense+tracin"} or None, default="dense"
        How documents are retrieved from `corpus`; None draws at random. TracIn needs a given `sae`.
    n_retrieved : int, default=5000
        How many documents.
    d_sae, k, architecture : int, int, str, default=2048, 32, "batchtopk"
        Size and sparsity of each SAE; see `SAEConfig`.
    tilt : float, default=0.3
        Tilt of the risk (TERM), in units of the running mean loss; 0 is the plain mean. On MiniLM tokens 0.3
        lowers the largest error by a fifth at no cost in the mean one; from 1 on the mean error pays.
    tilt_scale : {"mean", "raw"}, default="mean"
        `"raw"` is the paper's form, whose meaning depends on the activations' scale.
    train_tokens : int, default=500_000
        Tokens each SAE is trained on, texts repeated as needed; 0 takes a given `sae` as it is.
    flag : {"counterfactual", "association", "both"}, default="counterfactual"
        Which evidence flags; see `FlagRule`. `"counterfactual"` needs no labels. For `"association"` without
        `sensitive_features`, the side whose words a text holds more of stands in for the attribute.
    min_effect : float, default=0.8
        Smallest effect size that flags; 0.8 is Cohen's "large". A latent that carries a concept answers to its
        words by several standard deviations, and each latent ablated beyond those moves what a kept probe reads.
    max_q, max_latents, protect
        See `FlagRule`.
    namer : callable or None, default=None
        Names the latents that a person is shown, from `ssae_debias.latents.LatentEvidence` to a string: a language
        model on this machine, say (see `ssae_debias.latents.name_latents`). None names them by the words that they
        fire on more than texts in general hold them. Not kept by `save`; the names are.
    edit : {"zero", "mean", "clamp", "project"}, default="zero"
        What is done with flagged latents; see `edit_latents`.
    realign : bool, default=True
        After the latents' edits, map the activations at `output_site` back towards the unedited ones, so that a
        classifier trained on those still reads them; see `ssae_debias.estimators.residue`.
    erase : bool, default=True
        Then erase, within the classes of y, what still tells the attribute apart (LEACE given y): where
        `sensitive_features` are not given, what tells texts with one side's words from texts with the other's.
        Without y nothing is erased: across classes the task would go too.
    missing : {"error", "drop", "keep"}, default="error"
        What `fit` does with missing values of `sensitive_features`: refuse them, leave their texts out of the
        association, or take them as a value of their own.
    output_site : str or None, default=None
        Whose pooled activations `transform` returns; None takes the last block, the model's own embedding.
    pool : {"mean", "last", "cls"}, default="mean"
    include_special : bool, default=True
        Whether special tokens count, in pooling and in training: sentence-transformers counts them, and
        attention parks much on them.
    max_length : int, default=128
    max_texts : int, default=8192
        Texts the evidence is taken from, drawn at random where there are more: bounds the memory
        (4·max_texts·d_sae bytes a site and version).
    cache_dir : path or None, default=None
        Where activations and SAE checkpoints are kept, so that a second run reads them and a killed one goes
        on. None uses a temporary folder.
    device, dtype : str, default="cpu", "float32"
    random_state : int, RandomState or None, default=None
        With `cache_dir`, an int lets trained SAEs be found again.
    verbose : int, default=0

    Attributes
    ----------
    model_ : TextModel
    sites_ : tuple of str
    pairs_ : WordPairs or None
    saes_ : dict of str to SparseAutoencoder
    subdomain_ : Retrieved or None
        The retrieved documents.
    flagged_ : DataFrame
        One row a latent of each site: evidence, decision, reason; of the described ones also `top_tokens`, `name`
        and `nearest` (up to three (site, latent, cosine, name) that write nearly the same; see `nearest_latents`).
    descriptions_ : dict of (site, latent) to LatentDescription
        Strongest tokens and texts of the flagged latents, and of the 20 strongest of each site that were not flagged,
        so that a person can overrule in both directions. Texts are numbered as given to `fit`.
    centers_ : dict of str to ndarray
        Mean activation of each site.
    residue_ : dict of str to Edit
        `realignment` and `erasure`, as far as they were asked for and could be learned.
    edits_ : dict of str to Edit
        What is done at each site: the flagged latents' edit, and at `output_site` the residue's after it. Sites
        at which nothing is done are not in it.

    Examples
    --------
    >>> from ssae_debias import SSAEDebiaser
    >>> texts = ["She is a nurse in Leeds.", "He is a surgeon.", "She drove home.", "His ward was full."]
    >>> debiaser = SSAEDebiaser("demo", sites=["embed"], d_sae=64, k=4, train_tokens=2000, random_state=0)
    >>> debiaser.fit_transform(texts).shape
    (4, 384)
    """

    def __init__(
        self,
        model: Any = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        tokenizer: Any = None,
        sites: str | Sequence[str] = "auto",
        attribute: str | os.PathLike[str] | WordPairs | Sequence[tuple[str, str]] | None = "gender",
        sae: str | os.PathLike[str] | Mapping[str, Any] = "train",
        corpus: Any = None,
        retriever: str | None = "dense",
        n_retrieved: int = 5000,
        d_sae: int = 2048,
        k: int = 32,
        architecture: Literal["batchtopk", "topk", "relu", "jumprelu"] = "batchtopk",
        tilt: float = 0.3,
        tilt_scale: Literal["mean", "raw"] = "mean",
        train_tokens: int = 500_000,
        flag: Literal["counterfactual", "association", "both"] = "counterfactual",
        min_effect: float = 0.8,
        max_q: float = 0.01,
        max_latents: int | None = None,
        protect: float | None = None,
        namer: Any = None,
        edit: Literal["zero", "mean", "clamp", "project"] = "zero",
        realign: bool = True,
        erase: bool = True,
        missing: Literal["error", "drop", "keep"] = "error",
        output_site: str | None = None,
        pool: Pool = "mean",
        include_special: bool = True,
        max_length: int = 128,
        max_texts: int = 8192,
        cache_dir: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.sites = sites
        self.attribute = attribute
        self.sae = sae
        self.corpus = corpus
        self.retriever = retriever
        self.n_retrieved = n_retrieved
        self.d_sae = d_sae
        self.k = k
        self.architecture = architecture
        self.tilt = tilt
        self.tilt_scale = tilt_scale
        self.train_tokens = train_tokens
        self.flag = flag
        self.min_effect = min_effect
        self.max_q = max_q
        self.max_latents = max_latents
        self.protect = protect
        self.namer = namer
        self.edit = edit
        self.realign = realign
        self.erase = erase
        self.missing = missing
        self.output_site = output_site
        self.pool = pool
        self.include_special = include_special
        self.max_length = max_length
        self.max_texts = max_texts
        self.cache_dir = cache_dir
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, texts: Sequence[str], y: ArrayLike | None = None, *, sensitive_features: ArrayLike | None = None
    ) -> Self:
        """Train the SAEs, gather the evidence, flag latents and prepare the edits.

        Parameters
        ----------
        texts : sequence of str
        y : array-like of shape (n_texts,), optional
            Label: lets association be taken within its classes.
        sensitive_features : array-like of shape (n_texts,), optional
            Attribute; for missing values (None, NaN) see `missing`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            Texts that are a bare string or hold None; lengths or indices that differ; a constant attribute; a
            site that the model lacks; a flagging rule without the input that it needs; a namer that cannot be called.
        RuntimeError
            The namer failed; see `ssae_debias.latents.name_latents`.
        OSError
            The model is neither a folder nor reachable; no space or no permission in `cache_dir`.
        """
        check_aligned(texts=texts, y=y, sensitive_features=sensitive_features)
        given = check_texts(texts)
        label = None if y is None else check_labels(y, len(given))
        attribute, known = self._attribute(sensitive_features, label, len(given))
        rule = self._rule(attribute)
        check_namer(self.namer)
        random = check_random_state(self.random_state)
        self.model_: TextModel = load_model(
            self.model, tokenizer=self.tokenizer, device=self.device, dtype=self.dtype
        )
        self.pairs_ = None if self.attribute is None else as_word_pairs(self.attribute)
        self.output_site_ = self.output_site or self._last_block()
        self.sites_ = debias_sites(self.model_, self.sites, self.output_site_)
        brought = self._given_saes()
        self.subdomain_: Retrieved | None = self._retrieve(given, brought, random)
        training_texts = given + (self.subdomain_.texts if self.subdomain_ is not None else [])
        with self._workspace() as home:
            store = self._store(home, training_texts)
            self.saes_ = {
                site: self._sae(site, store, brought.get(site), home, random.randint(2**31 - 1))
                for site in self.sites_
            }
            rows = np.sort(random.permutation(len(given))[: self.max_texts])
            evidence = gather_evidence(
                store,
                lambda other: self._store(home, other),
                self.saes_,
                given,
                rows,
                pairs=self.pairs_,
                swap=self.flag != "association",
                y=label,
                sensitive_features=attribute,
                known=known,
            )
            self.flagged_ = rule.decide(evidence)
            self.centers_ = {site: mean_activation(store, site) for site in self.sites_}
            self._describe(store, rows, given)
        self._fit_residue(given, label, attribute, known)
        site = resolve_sites(self.model_, self.output_site_)
        self._n_features_out = site_widths(self.model_, site)[self.output_site_]
        return self

    def transform(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Pooled activations of the edited model.

        Parameters
        ----------
        texts : sequence of str

        Returns
        -------
        ndarray of float32, shape (n_texts, d_model)
        """
        check_is_fitted(self)
        return self._pooled(check_texts(texts), self.edits_)

    def transform_unedited(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What `transform` would return if nothing were edited: the baseline of every comparison."""
        check_is_fitted(self)
        return self._pooled(check_texts(texts), {})

    @contextmanager
    def edited_model(self) -> Iterator[Any]:
        """The live Hugging Face model, edited while the `with` block lasts.

        Examples
        --------
        >>> from ssae_debias import SSAEDebiaser
        >>> texts = ["She is a nurse.", "He is a surgeon.", "His ward was full."]
        >>> debiaser = SSAEDebiaser("demo", sites=["embed"], d_sae=64, k=4, train_tokens=2000, random_state=0)
        >>> with debiaser.fit(texts).edited_model() as model:
        ...     model.__class__.__name__
        'BertModel'
        """
        check_is_fitted(self)
        self._refuse_inside_edit()
        self._inside_edit = True
        try:
            with spliced(self.model_, self.edits_):
                yield self.model_.module
        finally:
            self._inside_edit = False

    def set_decisions(
        self,
        decisions: Mapping[tuple[str, int], str] | pd.DataFrame | Decisions | str | os.PathLike[str],
        texts: Sequence[str] | None = None,
        y: ArrayLike | None = None,
        *,
        sensitive_features: ArrayLike | None = None,
    ) -> Self:
        """Overrule the rule by a person's decisions.

        Parameters
        ----------
        decisions : mapping of (site, latent) to {"ablate", "keep"}, DataFrame with those three columns, Decisions or path
            A path is a file that a report page or ``ssae-debias review`` wrote. Its notes go to
            ``flagged_["note"]``.
        texts, y, sensitive_features
            As for `fit`, best the same: realignment and erasure are learned again on them, since they depend on
            the latents' edits. Without texts those of before stay, with a warning.

        Raises
        ------
        FileNotFoundError, DamagedFileError
            There is no such file of decisions, or it is none.
        ValueError
            The decisions were made about other SAEs, or on a latent that there is not.
        """
        check_is_fitted(self)
        self._refuse_inside_edit()
        self.flagged_ = overrule(self.flagged_, checked(decisions, self.saes_))
        if texts is not None:
            check_aligned(texts=texts, y=y, sensitive_features=sensitive_features)
            given = check_texts(texts)
            label = None if y is None else check_labels(y, len(given))
            self._fit_residue(given, label, *self._attribute(sensitive_features, label, len(given)))
            return self
        if self.residue_:
            warnings.warn(
                f"{' and '.join(self.residue_)} stay as they were learned for the latents of before. To learn them "
                "again: set_decisions(decisions, texts, y), with the texts and labels given to fit.",
                stacklevel=2,
            )
        self._compose_edits()
        return self

    def report(
        self,
        texts: Sequence[str],
        y: ArrayLike,
        *,
        sensitive_features: ArrayLike,
        n_splits: int = 5,
        random_state: int = 0,
    ) -> EffectReport:
        """Measure the edit: groups, worst group, fairlearn's differences and leakage, before and after.

        Parameters
        ----------
        texts : sequence of str
            Best texts that `fit` did not see.
        y, sensitive_features : array-like of shape (n_texts,)
        n_splits : int, default=5
            Probes are trained and tested by cross-validation over these texts.
        random_state : int, default=0
            Seed of the folds and the probes.

        Returns
        -------
        EffectReport
        """
        check_is_fitted(self)
        check_aligned(texts=texts, y=y, sensitive_features=sensitive_features)
        return measure_effect(
            self._pooled(check_texts(texts), {}),  # arrays, whatever set_output says
            self._pooled(check_texts(texts), self.edits_),
            check_labels(y),
            check_sensitive(sensitive_features)[0],
            n_splits=n_splits,
            random_state=random_state,
        )

    def export(self, path: str | os.PathLike[str], **options: Any) -> Exported:
        """Write the edited model as a folder that plain transformers loads, without ssae-debias.

        Parameters
        ----------
        path : path-like
            A free path, or an earlier export, which is replaced.
        **options
            `report` (the before-and-after table of the model card), `license`, `show_words`, `fold`, `examples`
            and `max_shard_size`; see `ssae_debias.estimators.exporting.export_debiaser`.

        Returns
        -------
        Exported
            Which edits became weights and which run as code, and how far the written model is from the live one.
            Its `push_to_hub` brings the folder to the hub.

        Examples
        --------
        >>> debiaser.export("edited", report=debiaser.report(texts, y, sensitive_features=a))  # doctest: +SKIP
        >>> pipeline("text-classification", model="edited", trust_remote_code=True)  # doctest: +SKIP
        """
        from ssae_debias.estimators.exporting import export_debiaser

        check_is_fitted(self)
        return export_debiaser(self, path, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted debiaser into a folder; see `ssae_debias.estimators.saved.save_debiaser`."""
        from ssae_debias.estimators.saved import save_debiaser

        check_is_fitted(self)
        save_debiaser(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: Any = None, tokenizer: Any = None) -> Self:
        """Read a saved debiaser; see `ssae_debias.estimators.saved.load_debiaser`."""
        from ssae_debias.estimators.saved import load_debiaser

        return load_debiaser(cls, path, model=model, tokenizer=tokenizer)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "edits_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    # what `fit` is made of, in its order

    def _attribute(
        self, sensitive_features: ArrayLike | None, label: NDArray[Any] | None, n: int
    ) -> tuple[NDArray[Any] | None, NDArray[np.bool_]]:
        if sensitive_features is None:
            return None, np.ones(n, dtype=bool)
        values, known = check_sensitive(sensitive_features, n, missing=self.missing)
        warn_if_determined(None if label is None else label[known], values)
        full = np.empty(n, dtype=object)
        full[known] = values
        return full, known

    def _rule(self, attribute: NDArray[Any] | None) -> FlagRule:
        if self.attribute is None and attribute is None:
            raise ValueError(
                "Nothing says what the attribute is: give attribute= (word pairs) or sensitive_features."
            )
        if self.flag not in ("counterfactual", "association", "both"):
            raise ValueError(
                f"flag must be counterfactual, association or both; got {self.flag!r}. (To flag by attribution, use "
                "ssae_debias.latents.attribute_decision and FlagRule, then set_decisions.)"
            )
        if self.attribute is None and self.flag != "association":
            raise ValueError(f"flag={self.flag!r} needs word pairs: give attribute=, or flag='association'.")
        return FlagRule(
            rule=self.flag,
            min_effect=self.min_effect,
            max_q=self.max_q,
            max_latents=self.max_latents,
            protect=self.protect,
        )

    def _last_block(self) -> str:
        return [site for site in self.model_.sites if site.startswith("resid.")][-1]

    def _given_saes(self) -> dict[str, SparseAutoencoder]:
        if isinstance(self.sae, str) and self.sae == "train":
            if self.train_tokens < 1:
                raise ValueError(f'sae="train" needs train_tokens of at least 1; got {self.train_tokens}.')
            return {}
        return given_saes(self.sae, self.sites_)

    def _retrieve(
        self, texts: list[str], saes: dict[str, SparseAutoencoder], random: np.random.RandomState
    ) -> Retrieved | None:
        if self.corpus is None:
            return None
        seeds = list(texts)
        if self.pairs_ is not None:
            seeds += self.pairs_.sentences(random_state=random.randint(2**31 - 1))
        last = self.sites_[-1]
        return retrieve_subdomain(
            self.corpus,
            seeds,
            n=self.n_retrieved,
            retriever=self.retriever,
            encoder=self.model_,
            model=self.model_,
            site=last,
            sae=saes.get(last),
            max_length=self.max_length,
            random_state=random.randint(2**31 - 1),
            verbose=self.verbose,
        )

    @contextmanager
    def _workspace(self) -> Iterator[Path]:
        if self.cache_dir is not None:
            yield Path(self.cache_dir)
        else:
            with tempfile.TemporaryDirectory(prefix="ssae-debias-") as folder:
                yield Path(folder)

    def _store(self, home: Path, texts: list[str]) -> ActivationStore:
        return ActivationStore.build(
            home / "activations",
            self.model_,
            texts,
            self.sites_,
            max_length=self.max_length,
            include_special=self.include_special,
            verbose=self.verbose,
        )

    def _sae(
        self, site: str, store: ActivationStore, init: SparseAutoencoder | None, home: Path, seed: int
    ) -> SparseAutoencoder:
        if init is not None and self.train_tokens == 0:
            return init.cpu().eval()
        config = SAEConfig(
            d_sae=self.d_sae if init is None else init.d_sae,
            k=self.k,
            architecture=self.architecture,
            tilt=self.tilt,
            tilt_scale=self.tilt_scale,
            n_tokens=self.train_tokens,
        )
        # checkpoints are worth their disk only where a second run can find them
        keep = self.cache_dir is not None and self.random_state is not None
        sae = train_sae(
            store.at(site),
            config,
            init=init,
            checkpoint_dir=home / "saes" if keep else None,
            random_state=seed,
            device=self.device,
            verbose=self.verbose,
        ).cpu()  # stored activations are read on the CPU; `spliced` moves the edits to the model
        sae.metadata |= {"model_name": self.model_.name, "hook_name": site, "context_size": self.max_length}
        return sae

    def _describe(self, store: ActivationStore, rows: NDArray[np.int64], texts: list[str]) -> None:
        tokens = of_texts(store, rows, renumber=False)
        self.flagged_, self.descriptions_ = describe_flagged(
            self.flagged_, tokens, self.saes_, self.model_.tokenizer, texts, self.namer
        )

    def latent_edits(self) -> dict[str, Edit]:
        """The flagged latents' edits alone, by site: what `edits_` is before the residue's."""
        check_is_fitted(self, "flagged_")
        return edit_flagged(self.flagged_, self.saes_, self.edit, self.centers_)

    def _fit_residue(
        self,
        texts: list[str],
        y: NDArray[Any] | None,
        attribute: NDArray[Any] | None,
        known: NDArray[np.bool_],
    ) -> None:
        """Learn realignment and erasure from the pooled activations under the latents' edits."""
        self.residue_: dict[str, Edit] = {}
        edits = self.latent_edits()
        erase = self.erase and y is not None
        if (self.realign and edits) or erase:
            pooled = self._pooled(texts, edits, keep=True)
            if self.realign and edits:
                affine = realignment(pooled, self._pooled(texts, {}, keep=True))
                pooled = affine(torch.from_numpy(pooled)).numpy()
                self.residue_["realignment"] = affine
            if erase and y is not None:
                if attribute is None:
                    attribute = sides_of(texts, self.pairs_)
                    known = attribute != 0
                projection = erasure(pooled, y, attribute, known)
                if projection is not None:
                    self.residue_["erasure"] = projection
        self._compose_edits()

    def _compose_edits(self) -> None:
        edits: dict[str, Edit] = self.latent_edits()
        if not edits:  # nothing was moved, so there is nothing to move back
            self.residue_.pop("realignment", None)
        at_output = compose(edits.get(self.output_site_), *self.residue_.values())
        self.edits_ = edits if at_output is None else {**edits, self.output_site_: at_output}

    def _refuse_inside_edit(self) -> None:
        if getattr(self, "_inside_edit", False):
            raise RuntimeError(
                "The model is being edited already, by this debiaser's own edited_model(): here it would be edited "
                "twice, or read as unedited while it is not. Leave the with block first; inside it, call the model "
                "itself."
            )

    def _pooled(
        self, texts: Sequence[str], edits: Mapping[str, Edit], *, keep: bool = False
    ) -> NDArray[np.float32]:
        self._refuse_inside_edit()
        return pooled_under_edits(
            self.model_,
            texts,
            edits,
            site=self.output_site_,
            pool=self.pool,
            include_special=self.include_special,
            max_length=self.max_length,
            home=Path(self.cache_dir) if keep and self.cache_dir is not None else None,
            verbose=self.verbose,
        )
