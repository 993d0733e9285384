"""The recipe of `kind: scr`: data and pairs of classes, the protocol, and the SAEs to compare."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from ssae_debias.metrics import N_LATENTS
from ssae_debias.recipe.schema import DataSpec, _Section


class ScrDataSpec(DataSpec):
    """Where the texts come from, as in a table's recipe, and which pairs of classes are told apart.

    Attributes
    ----------
    pairs : tuple of (str, str)
        Pairs of labels, each a task of its own against the attribute: professions of `bias_in_bios` and
        `synthetic`, values of the label column of a `table`.
    """

    pairs: tuple[tuple[str, str], ...] = (("surgeon", "nurse"),)

    @model_validator(mode="after")
    def _pairs_say_the_labels(self) -> ScrDataSpec:
        for key in ("professions", "labels"):
            if key in self.model_fields_set:
                raise ValueError(f"data.pairs says which labels are compared; leave data.{key} out")
        if not self.pairs or len(set(self.pairs)) < len(self.pairs):
            raise ValueError(f"data.pairs needs at least one pair, each once; got {list(self.pairs)}")
        return self

    def tasks(self) -> dict[str, DataSpec]:
        """The data of each pair, by its name."""
        key = "labels" if self.source == "table" else "professions"
        given = self.model_dump(exclude={"pairs"}, exclude_unset=True)
        return {"/".join(pair): DataSpec(**{**given, key: pair}) for pair in self.pairs}


class ScrProtocolSpec(_Section):
    """How texts are drawn, read and probed; the defaults are SAEBench's where they exist.

    Attributes
    ----------
    site : str
        Where the SAEs stand and the probes read.
    max_length, include_special
        Tokens a text is cut at; whether `[CLS]`, `<s>`, … count in the mean (published: they do not).
    n_train, n_test : int
        Texts of each task, a quarter of them from each quadrant; fewer where the data have fewer.
    n_latents : tuple of int
        How many latents are zeroed; numbers above an SAE's size are left out for it.
    C : float
        Of the probes; see `linear_probe`.
    """

    site: str = "resid.3"
    max_length: int = Field(128, ge=2)
    include_special: bool = False
    n_train: int = Field(4000, ge=8)
    n_test: int = Field(1000, ge=8)
    train_splits: tuple[str, ...] = ("train",)
    evaluation_splits: tuple[str, ...] = ("dev", "test")
    n_latents: tuple[int, ...] = N_LATENTS
    C: float = Field(0.1, gt=0)

    @field_validator("n_latents")
    @classmethod
    def _ascending(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not values or any(n < 1 for n in values) or len(set(values)) < len(values):
            raise ValueError(f"whole numbers of at least 1, each once; got {list(values)}")
        return tuple(sorted(values))


class SaeSpec(_Section):
    """One SAE of the comparison: a saved one (`path`), or one trained here with each seed.

    Attributes
    ----------
    path : str, optional
        A SAELens-format directory. It is used as it is, so nothing else may be set beside it.
    corpus : str, optional
        What to train on: a file of texts, `synthetic` for the embedded general corpus, or nothing for the
        training texts of the pairs themselves.
    n_texts : int
        At most so many texts of it, drawn at random.
    d_sae, k, architecture, tilt, tilt_scale, train_tokens
        As in a table's `ssae` section.
    """

    path: str | None = None
    corpus: str | None = None
    n_texts: int = Field(8192, ge=1)
    d_sae: int = Field(2048, ge=1)
    k: int = Field(32, ge=1)
    architecture: Literal["batchtopk", "topk", "relu", "jumprelu"] = "batchtopk"
    tilt: float = 0.0
    tilt_scale: Literal["mean", "raw"] = "mean"
    train_tokens: int = Field(500_000, ge=1)

    @model_validator(mode="after")
    def _saved_or_trained(self) -> SaeSpec:
        beside = sorted(self.model_fields_set - {"path"})
        if self.path is not None and beside:
            raise ValueError(
                f"an SAE with a path is used as it is; leave {', '.join(beside)} out, or the path"
            )
        return self


class TppSpec(_Section):
    """Over which classes TPP is taken.

    Attributes
    ----------
    source : {"concepts", "table", "bias_in_bios", "off"}
        `concepts`: both labels and both attribute values of each pair, on its own texts. `table` and
        `bias_in_bios`: three or more classes of another file, or of the hub's data set, by column.
    path, text, label, split
        As in `data`, for `table`; `path` also for a local copy of `bias_in_bios`.
    classes : tuple of str, optional
        By default all values of the label column.
    """

    source: Literal["concepts", "table", "bias_in_bios", "off"] = "concepts"
    path: str | None = None
    text: str = "text"
    label: str = "category"
    split: str | None = None
    classes: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _classes_have_a_source(self) -> TppSpec:
        given = sorted(self.model_fields_set - {"source"})
        if self.source in ("concepts", "off") and given:
            raise ValueError(f"tpp.source: {self.source} takes no {', '.join(given)}; set tpp.source=table")
        if self.source == "table" and self.path is None:
            raise ValueError("tpp.source: table needs tpp.path, the parquet, CSV or JSONL file")
        if self.source == "bias_in_bios" and self.classes is None:
            raise ValueError("tpp.source: bias_in_bios needs tpp.classes, three or more professions")
        if self.classes is not None and (len(self.classes) < 3 or len(set(self.classes)) < len(self.classes)):
            raise ValueError(f"tpp.classes needs three or more, each once; got {list(self.classes)}")
        return self


class ScrRecipe(_Section):
    """A run of SCR and TPP: data, model, protocol, SAEs by name, and seeds.

    Examples
    --------
    >>> ScrRecipe(kind="scr", title="Mine").protocol.n_latents
    (2, 5, 10, 20, 50, 100, 500)
    """

    kind: Literal["scr"]
    title: str
    model: str = "demo"
    data: ScrDataSpec = ScrDataSpec()
    protocol: ScrProtocolSpec = ScrProtocolSpec()
    tpp: TppSpec = TppSpec()
    saes: dict[str, SaeSpec] = Field(default_factory=lambda: {"sae": SaeSpec()}, min_length=1)
    seeds: tuple[NonNegativeInt, ...] = (42, 43, 44)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    cache_dir: str | None = None
    quick: dict[str, Any] = Field(default_factory=dict)

    @field_validator("seeds")
    @classmethod
    def _some_and_each_once(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not values or len(set(values)) < len(values):
            raise ValueError(f"at least one, each once; got {list(values)}")
        return values
