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
    """

    site: str = "resid.3"
    pool: Literal["mean", "last", "cls"] = "mean"
    include_special: bool = True
    max_length: int = Field(128, ge=2)
    C: float = Field(0.1, gt=0)
    draw: Literal["first", "random"] = "random"
    train_splits: tuple[str, ...] = ("train",)
    evaluation_splits: tuple[str, ...] = ("dev", "test")


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


class Recipe(_Section):
    """A run: data, model, protocol, the method's settings, what to compare with, and seeds."""

    title: str
    model: str = "demo"
    data: DataSpec = DataSpec()
    protocol: ProtocolSpec = ProtocolSpec()
    ssae: SSAESpec = SSAESpec()
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
