"""The recipe of `kind: evaluate`: texts, the SAEs to train or to load, and what is measured of them."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from ssae_debias.recipe.schema import _Section
from ssae_debias.retrieval.subdomain import RETRIEVERS

Strategy = Literal["general", "bm25", "dense", "bm25+tracin", "dense+tracin", "seeds"]
Analysis = Literal["fidelity", "tail", "shape", "recall", "interpretability", "circuit", "error"]

GSAE = "gsae"
"""The variant that all others are compared with: trained on general text, and by them started from."""


class GeneralSpec(_Section):
    """The general corpus, from which subdomains are retrieved.

    Attributes
    ----------
    paths : tuple of str
        Files of texts (parquet, CSV, JSONL, text). None: the embedded made-up corpus.
    text : str
        Their column.
    n_texts : int
        At most so many texts, drawn at random.
    n_test : int
        Texts of it that nothing is trained on, to see what specialising costs elsewhere. 0: none.
    random_state : int
        Of all draws of texts; the seeds of the SAEs are others.
    """

    paths: tuple[str, ...] = ()
    text: str = "text"
    n_texts: int = Field(20_000, ge=50)
    n_test: int = Field(300, ge=0)
    random_state: int = 0


class SubdomainSpec(_Section):
    """The subdomain: texts to start retrieval from, and texts to measure on, which are no others' part.

    Attributes
    ----------
    path : str, optional
        A file of its texts. Without one, `pattern` picks texts of the general corpus; without either, made-up
        biographies stand for it.
    text : str
        The file's column.
    where : dict of str to tuple of str
        Per column the values of the rows to keep.
    pattern : str, optional
        A regular expression that the subdomain's texts match; case does not count.
    label, attribute : str, optional
        Columns of the file: the label is what a probe predicts where the model has no language head, and what the
        circuit decides; the attribute is what the error term may carry.
    labels_in : dict of str to str, optional
        In place of `label`: a regular expression per label; a text has the label whose expression alone matches.
    n_seeds : int
        Texts that retrieval starts from; "validation" texts in the paper.
    n_test : int
        Texts that all is measured on.
    n_in_general : int
        Texts of the file mixed into the general corpus, so that the subdomain is a rare part of it. (With `pattern`
        it is one already.)
    """

    path: str | None = None
    text: str = "text"
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    pattern: str | None = None
    label: str | None = None
    attribute: str | None = None
    labels_in: dict[str, str] | None = None
    n_seeds: int = Field(100, ge=2)
    n_test: int = Field(1000, ge=10)
    n_in_general: int = Field(0, ge=0)

    @field_validator("pattern")
    @classmethod
    def _expression(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _compiled(pattern)
        return pattern

    @field_validator("labels_in")
    @classmethod
    def _expressions(cls, patterns: dict[str, str] | None) -> dict[str, str] | None:
        if patterns is not None:
            if len(patterns) < 2:
                raise ValueError("two labels or more")
            for pattern in patterns.values():
                _compiled(pattern)
        return patterns

    @model_validator(mode="after")
    def _fits(self) -> SubdomainSpec:
        if self.path is None:
            given = [key for key in ("where", "label", "attribute", "n_in_general") if getattr(self, key)]
            if given:
                raise ValueError(f"{', '.join(given)}: of a file only; set subdomain.path=FILE")
        if self.label is not None and self.labels_in is not None:
            raise ValueError("give label (a column) or labels_in (expressions), not both")
        return self


class TrainSpec(_Section):
    """The SAEs that are trained: strategies of choosing data × tilts × sparsity levels, each with every seed.

    Attributes
    ----------
    strategies : tuple of str
        Beside the GSAE itself, which is trained whatever is asked for: `general` (as many more tokens of general text:
        what longer training alone brings), `bm25`, `dense`, `bm25+tracin`, `dense+tracin` (retrieved), `seeds`
        (on the seeds alone). Empty with `ks` empty: nothing is trained, `saes` are compared.
    tilts : tuple of float
        0 is the mean (ERM); see `SAEConfig`.
    tilt_scale : {"mean", "raw"}
    ks : tuple of int
        Sparsity levels, latents a token.
    d_sae, architecture
        See `SAEConfig`.
    general_tokens, tokens : int
        Tokens that a GSAE, and a specialised SAE, is trained on.
    n_retrieved : int
        Documents of a retrieved subdomain.
    encoder : str
        Of dense retrieval.
    start : {"gsae", "scratch"}
        A specialised SAE starts from the GSAE of its seed and sparsity, or anew.
    """

    strategies: tuple[Strategy, ...] = get_args(Strategy)
    tilts: tuple[float, ...] = (0.0, 3.0)
    tilt_scale: Literal["mean", "raw"] = "mean"
    ks: tuple[int, ...] = (8, 16, 32)
    d_sae: int = Field(1024, ge=1)
    architecture: Literal["batchtopk", "topk"] = "batchtopk"
    general_tokens: int = Field(1_000_000, ge=1)
    tokens: int = Field(300_000, ge=1)
    n_retrieved: int = Field(2000, ge=1)
    encoder: str = "demo"
    start: Literal["gsae", "scratch"] = "gsae"

    @field_validator("strategies", "tilts", "ks")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values) or any(not isinstance(v, str) and v < 0 for v in values):
            raise ValueError(f"not negative, each once; got {list(values)}")
        return values

    @model_validator(mode="after")
    def _together(self) -> TrainSpec:
        if self.strategies and not (self.tilts and self.ks):
            raise ValueError(
                "strategies need tilts and ks; to train nothing, set train.strategies=[] train.ks=[]"
            )
        if self.ks and max(self.ks) > self.d_sae:
            raise ValueError(f"k={max(self.ks)} exceeds d_sae={self.d_sae}")
        return self

    def retrievers(self) -> list[str]:
        """The strategies that retrieve."""
        return [strategy for strategy in self.strategies if strategy in RETRIEVERS]


class ConceptSpec(_Section):
    """Which concepts are looked for in the dictionaries.

    Attributes
    ----------
    words : dict of str to tuple of str
        Word lists by name.
    patterns : dict of str to str
        Regular expressions by name.
    labels : bool
        Also the labels of the subdomain's texts.
    drawn : int
        So many single words of the test texts, evenly over the logarithm of their frequency.
    least : int
        Occurrences that a drawn word has at least.
    planted : tuple of float
        Frequencies at which made-up words are put into the subdomain's texts of the general corpus (and into the test
        texts, often enough to be measured). Needs such texts: a `pattern`, or `n_in_general`.
    planted_words : int
        Words at each frequency.
    """

    words: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    patterns: dict[str, str] = Field(default_factory=dict)
    labels: bool = True
    drawn: int = Field(60, ge=0)
    least: int = Field(20, ge=4)
    planted: tuple[float, ...] = ()
    planted_words: int = Field(3, ge=1)

    @field_validator("patterns")
    @classmethod
    def _expressions(cls, patterns: dict[str, str]) -> dict[str, str]:
        for pattern in patterns.values():
            _compiled(pattern)
        return patterns

    @field_validator("planted")
    @classmethod
    def _frequencies(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < value <= 0.05 for value in values) or len(set(values)) < len(values):
            raise ValueError(f"above 0 and at most 0.05, each once; got {list(values)}")
        return values


class InterpretabilitySpec(_Section):
    """How latents are explained.

    Attributes
    ----------
    explainer : str
        `lexicon` (rules over tokens, no language model), or the folder or hub id of a causal language model that is
        asked. (Any callable: `run_evaluate(explainer=…, judge=…)`.)
    n_latents : int
        Latents of each SAE, drawn from those that fire.
    """

    explainer: str = "lexicon"
    n_latents: int = Field(100, ge=2)


class CircuitSpec(_Section):
    """The circuit of a probe that reads the subdomain's labels, two of them.

    Attributes
    ----------
    sites : tuple of str
        Where nodes are looked for; the probe reads the last. Empty: the recipe's site alone.
    variants : tuple of str
        For which of the strategies (tilt 0; `gsae` is the GSAE).
    n_texts : int
        Texts that effects are averaged over.
    node_threshold, edge_threshold : float
        T_N and T_E; see `find_circuit`.
    """

    sites: tuple[str, ...] = ()
    variants: tuple[str, ...] = (GSAE, "dense")
    n_texts: int = Field(100, ge=2)
    node_threshold: float = Field(0.1, ge=0)
    edge_threshold: float = Field(0.01, ge=0)


class EvaluateRecipe(_Section):
    """A comparison of SAEs: what is trained or loaded, and each of the paper's analyses.

    Attributes
    ----------
    kind : "evaluate"
    title : str
    model : str
        Folder or hub id, or `demo`. A language head is used where its checkpoint has one.
    site : str
        Where all SAEs read.
    objective : {"causal", "masked", "probe"}, optional
        What fidelity is measured by; default: what the head predicts, without one a probe of the labels.
    probe_site : str, optional
        Where that probe reads; default: the site itself.
    saes : dict of str to str
        Saved SAEs by name, as folders in any known format.
    compare_k : int, optional
        The sparsity level of all but fidelity; default: the middle one of `ks`. Loaded SAEs take part too, brought to
        the same L0.
    analyses : tuple of str
    seeds : tuple of int

    Examples
    --------
    >>> EvaluateRecipe(kind="evaluate", title="Mine").compared_k
    16
    """

    kind: Literal["evaluate"]
    title: str
    model: str = "demo"
    site: str = "resid.3"
    max_length: int = Field(128, ge=4)
    include_special: bool = False
    objective: Literal["causal", "masked", "probe"] | None = None
    probe_site: str | None = None
    general: GeneralSpec = GeneralSpec()
    subdomain: SubdomainSpec = SubdomainSpec()
    train: TrainSpec = TrainSpec()
    saes: dict[str, str] = Field(default_factory=dict)
    compare_k: int | None = None
    concepts: ConceptSpec = ConceptSpec()
    interpretability: InterpretabilitySpec = InterpretabilitySpec()
    circuit: CircuitSpec = CircuitSpec()
    analyses: tuple[Analysis, ...] = get_args(Analysis)
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    n_resamples: int = Field(300, ge=10)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    cache_dir: str | None = None
    quick: dict[str, Any] = Field(default_factory=dict)

    @field_validator("seeds", "analyses")
    @classmethod
    def _some_and_each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values or len(set(values)) < len(values):
            raise ValueError(f"at least one, each once; got {list(values)}")
        return values

    @model_validator(mode="after")
    def _something_to_compare(self) -> EvaluateRecipe:
        if not self.train.ks and not self.saes:
            raise ValueError("nothing is trained (train.ks is empty) and no saved SAE is named in saes")
        if taken := {GSAE, *get_args(Strategy)} & set(self.saes):
            raise ValueError(f"saes.{min(taken)}: the name of a strategy; call the saved SAE something else")
        if self.compare_k is not None and self.compare_k not in self.train.ks:
            raise ValueError(f"compare_k={self.compare_k} is not among train.ks={list(self.train.ks)}")
        if wrong := set(self.circuit.variants) - {GSAE, *get_args(Strategy)}:
            raise ValueError(f"circuit.variants: {', '.join(sorted(wrong))} is no strategy")
        return self

    @property
    def compared_k(self) -> int | None:
        """The sparsity level of all but fidelity; None where nothing is trained."""
        ks = sorted(self.train.ks)
        return self.compare_k if self.compare_k is not None else (ks[len(ks) // 2] if ks else None)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
