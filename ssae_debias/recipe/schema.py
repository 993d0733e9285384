"""The recipe: everything a run depends on, typed and checked before any work begins."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSpec(_Section):
    """Where the task comes from.

    `synthetic` is the embedded generator; `bias_in_bios` the hub's data set (or a local folder laid out like
    it); `table` a parquet, CSV or JSONL file whose columns are named here.

    Attributes
    ----------
    where : dict of str to tuple of str
        Of a table: per column the values of the rows to keep.
    label_patterns, attribute_patterns : dict, optional
        Of a table, in place of the column `label` or `attribute`: per name one regular expression or several.
        A row is kept where exactly one name matches, and is among `labels` or `attributes`.
    patterns_in : {"first_sentence", "text"}
        What they are searched in.
    delete_label_words : bool
        Take the words of the label's patterns out of the texts.
    max_per_group : int or None
        Keep at most so many texts of each group of each split, drawn with `random_state`: a smaller run.
    """

    source: Literal["synthetic", "bias_in_bios", "table"] = "synthetic"
    path: str | None = None
    professions: tuple[str, str] = ("surgeon", "nurse")
    n: int = Field(2000, ge=200)
    correlation: float = Field(0.9, ge=0.5, le=1.0)
    text: str = "text"
    label: str = "profession"
    attribute: str = "gender"
    split: str | None = "split"
    labels: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None
    missing: Literal["error", "drop", "keep"] = "error"
    random_state: int = 0
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    label_patterns: dict[str, str | tuple[str, ...]] | None = None
    attribute_patterns: dict[str, str | tuple[str, ...]] | None = None
    patterns_in: Literal["first_sentence", "text"] = "first_sentence"
    delete_label_words: bool = True
    max_per_group: int | None = Field(None, ge=10)

    @field_validator("label_patterns", "attribute_patterns")
    @classmethod
    def _regular_expressions(cls, patterns: dict[str, Any] | None) -> dict[str, Any] | None:
        from ssae_debias.data import check_patterns

        if patterns is not None:
            check_patterns(patterns)
        return patterns

    @model_validator(mode="after")
    def _patterns_in_place_of_columns(self) -> DataSpec:
        fields = type(self).model_fields
        for column, patterns in (("label", self.label_patterns), ("attribute", self.attribute_patterns)):
            # a recipe that a run has written out names the default column, too
            if patterns is not None and getattr(self, column) != fields[column].default:
                raise ValueError(f"give {column} (a column) or {column}_patterns, not both")
        if self.source != "table" and (self.where or self.label_patterns or self.attribute_patterns):
            raise ValueError("where, label_patterns and attribute_patterns are for source: table")
        return self

    @model_validator(mode="after")
    def _table_needs_path(self) -> DataSpec:
        if self.source == "table" and self.path is None:
            raise ValueError(
                "source: table needs data.path, the parquet, CSV or JSONL file (--set data.path=FILE)"
            )
        if self.source == "synthetic" and self.path is not None:
            raise ValueError("source: synthetic reads no file; for your own data set data.source=table")
        return self


class ProtocolSpec(_Section):
    """How methods are trained and judged; the defaults are those of Bias in Bios with a sentence encoder.

    Attributes
    ----------
    site, pool, include_special, max_length
        Which activations the probe reads.
    C : float
        Inverse L2 strength of the logistic probe on standardised activations.
    draw : {"first", "random"}
        Rows of the ambiguous and balanced sets: the first in dataset order (the published way), or drawn anew
        with each seed.
    train_splits, evaluation_splits : tuple of str
    validation_folds : int, optional
        Judge on parts of the training splits instead, to choose settings by: seed s trains without fold s modulo
        this number and is judged on that fold. The evaluation splits are not read.
    """

    site: str = "resid.3"
    pool: Literal["mean", "last", "cls"] = "mean"
    include_special: bool = True
    max_length: int = Field(128, ge=2)
    C: float = Field(0.1, gt=0)
    draw: Literal["first", "random"] = "random"
    train_splits: tuple[str, ...] = ("train",)
    evaluation_splits: tuple[str, ...] = ("dev", "test")
    validation_folds: int | None = Field(None, ge=2)


class SSAESpec(_Section):
    """Settings of `SSAEDebiaser`, under the same names and with the same meaning.

    `corpus` is a file (parquet, CSV, JSONL, text), or `synthetic` for the embedded general corpus.
    """

    sites: Literal["auto"] | tuple[str, ...] = "auto"
    attribute: str | tuple[tuple[str, str], ...] = "gender"
    sae: str = "train"
    corpus: str | None = None
    retriever: Literal["bm25", "dense", "bm25+tracin", "dense+tracin"] | None = "dense"
    n_retrieved: int = Field(5000, ge=1)
    d_sae: int = Field(2048, ge=1)
    k: int = Field(32, ge=1)
    architecture: Literal["batchtopk", "topk", "relu", "jumprelu"] = "batchtopk"
    tilt: float = 0.3
    tilt_scale: Literal["mean", "raw"] = "mean"
    train_tokens: int = Field(500_000, ge=0)
    flag: Literal["counterfactual", "association", "both"] = "counterfactual"
    min_effect: float = Field(0.8, ge=0)
    max_q: float = Field(0.01, gt=0, le=1)
    max_latents: int | None = Field(None, ge=0)
    protect: float | None = None
    edit: Literal["zero", "mean", "clamp", "project"] = "zero"
    realign: bool = True
    erase: bool = True


class RivalsSpec(_Section):
    """Settings of the rivals that have any.

    Attributes
    ----------
    swap_directions : int
        Directions of the text-to-swap differences that `swap_projection` takes out.
    selected_latents : int
        How many encoder directions `select_and_project` takes out.
    selected_strength : float
        Its α: 1 takes their span out, 0 changes nothing.
    """

    swap_directions: int = Field(3, ge=1)
    selected_latents: int = Field(10, ge=1)
    selected_strength: float = Field(1.0, ge=0, le=1)


class ShiftSpec(_Section):
    """SHIFT as published (Marks et al. 2025; Muhamed et al. 2025, table 1), and concept bottleneck probing.

    GSAEs at all sites up to the one that the probe reads are trained on general text or brought; SSAEs are
    fine-tuned from them on the task's training texts. Latents whose ablation would hurt the original probe's
    decisions are proposed, a person may overrule, and what is left is zero-ablated inside the model with the
    SAE's error term kept. SAEs and decisions are made once a run, with the first of its seeds.

    Attribution finds what the decision uses, the task's own latents too. Telling them apart is the person's part:
    unless decisions are given all are ablated, and the task may go with the attribute.

    A run writes what it proposed to `shift/gsae.csv`, `ssae.csv`, `gsae_slice.csv` and `ssae_slice.csv` in its
    cache folder (columns sae, site, latent, attribution, decision, reason, top_tokens). To veto, copy such a
    file, change words in the column decision, and name the copy as `decisions` in a second run, which reads
    SAEs and attribution from the cache. Latent numbers belong to the SAEs of that run: other settings, other
    latents.

    Attributes
    ----------
    sites : "auto" or tuple of str
        `auto` is as published: embed, and attn, mlp and resid of every block, up to the site of the protocol.
    gsae : str or None
        A folder of general SAEs: one folder a site, or a Sparse-Feature-Circuits release; on the hub as
        `hub:owner/name/folder`. None trains them.
    corpus : str or None
        General text to train GSAEs on and to retrieve from: a file (parquet, CSV, JSONL, text), or `synthetic`.
    gsae_tokens, ssae_tokens : int
        Tokens drawn from general text, and from the subdomain; activations of all sites are kept for so many
        (2 bytes a number: 1.5 GB for 150,000 tokens at 13 sites of MiniLM).
    epochs : int
        Times that each SAE is trained over its tokens.
    retriever : {"bm25", "dense", "bm25+tracin", "dense+tracin"} or None
    n_retrieved : int
        Documents of `corpus` that join the training texts in the subdomain.
    d_sae, k, architecture, l1_coefficient
        Of SAEs trained here; see `SAEConfig`. An SSAE has its GSAE's width.
    tilt, tilt_scale
        Of the SSAEs' risk; GSAEs are trained under the plain mean.
    attribution : {"gradient", "integrated", "exact"}
        `integrated` is the published one; `gradient` costs one pass for all sites.
    steps : int
        Points on the path of `integrated`.
    n_texts : int
        Ambiguous training texts that the attribution is averaged over; balanced ones for the skylines.
    threshold, n_latents : float, int or None
        Ablate latents of an effect above `threshold` (published: 0.1 on Pythia-70m), or the `n_latents`
        strongest of all sites together, since an effect's scale depends on the model. One of the two; where
        neither is given, 55 latents, the number published.
    slice_width : float
        Part of the latents that a slice keeps, those of most activation on the subdomain.
    decisions : str or None
        CSV or JSON file of a person's decisions: columns site, latent, decision (ablate or keep), and sae
        (gsae or ssae), which may be left out where the run has rows of one kind only.
    keywords : tuple of str
        Words of the task for concept bottleneck probing; 20 as published.
    """

    sites: Literal["auto"] | tuple[str, ...] = "auto"
    gsae: str | None = None
    corpus: str | None = None
    gsae_tokens: int = Field(150_000, ge=1)
    ssae_tokens: int = Field(150_000, ge=1)
    epochs: int = Field(3, ge=1)
    retriever: Literal["bm25", "dense", "bm25+tracin", "dense+tracin"] | None = "dense"
    n_retrieved: int = Field(0, ge=0)
    d_sae: int = Field(1024, ge=1)
    k: int = Field(24, ge=1)
    architecture: Literal["batchtopk", "topk", "relu", "jumprelu"] = "batchtopk"
    l1_coefficient: float = Field(2.0, ge=0)
    tilt: float = 0.3
    tilt_scale: Literal["mean", "raw"] = "mean"
    attribution: Literal["gradient", "integrated", "exact"] = "integrated"
    steps: int = Field(10, ge=1)
    n_texts: int = Field(100, ge=1)
    threshold: float | None = None
    n_latents: int | None = Field(None, ge=1)
    slice_width: float = Field(1 / 8, gt=0, le=1)
    decisions: str | None = None
    keywords: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_rule(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = [name for name in ("threshold", "n_latents") if values.get(name) is not None]
        if len(given) == 2:
            raise ValueError(
                "latents are chosen by threshold or by n_latents; both are given: set one of them to null "
                "(--set shift.n_latents=null)"
            )
        return values if given else {**values, "n_latents": 55}

    @field_validator("keywords")
    @classmethod
    def _two_words_or_none(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if len(words) == 1 or len(set(words)) < len(words) or not all(word.strip() for word in words):
            raise ValueError(f"keywords are two or more different words (20 as published); got {list(words)}")
        return words


class Recipe(_Section):
    """A run: data, model, protocol, the method's settings, what to compare with, and seeds."""

    kind: Literal["table"] = "table"
    title: str
    model: str = "demo"
    data: DataSpec = DataSpec()
    protocol: ProtocolSpec = ProtocolSpec()
    ssae: SSAESpec = SSAESpec()
    shift: ShiftSpec = ShiftSpec()
    rivals: RivalsSpec = RivalsSpec()
    methods: tuple[str, ...] = (
        "original",
        "debiaser",
        "debiaser_retrain",
        "delete_words",
        "leace",
        "leace_given_y",
        "reweighting",
        "random_latents",
        "oracle",
    )
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    cache_dir: str | None = None
    quick: dict[str, Any] = Field(default_factory=dict)

    @field_validator("seeds", "methods")
    @classmethod
    def _some_and_each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values or len(set(values)) < len(values):
            raise ValueError(f"at least one, each once; got {list(values)}")
        return values

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from ssae_debias.recipe.methods import METHODS

        unknown = [name for name in names if name not in METHODS]
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}; known are {', '.join(METHODS)}")
        return names

    @model_validator(mode="after")
    def _shift_has_what_it_needs(self) -> Recipe:
        from ssae_debias.recipe.methods.shift import SHIFT

        asked = [name for name in self.methods if name in SHIFT]
        if asked and self.shift.gsae is None and self.shift.corpus is None:
            raise ValueError(
                f"{', '.join(asked)}: SHIFT needs general SAEs; give a folder of them (--set shift.gsae=DIR), or "
                "general text to train them on (--set shift.corpus=FILE, or shift.corpus=synthetic)"
            )
        if asked and self.shift.n_retrieved and self.shift.corpus is None:
            raise ValueError(
                f"shift.n_retrieved={self.shift.n_retrieved} documents come from shift.corpus, which is not given; "
                "name a file (--set shift.corpus=FILE) or retrieve none (--set shift.n_retrieved=0)"
            )
        if "cbp" in self.methods and not self.shift.keywords:
            raise ValueError(
                "cbp needs words of the task: shift.keywords, 20 as published "
                "(--set 'shift.keywords=[surgeon, nurse, ...]')"
            )
        return self
