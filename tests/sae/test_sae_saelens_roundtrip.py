"""The real sae-lens, dictionary_learning and sparsify packages: their SAEs here, and ours in sae-lens.

Needs packages that the toolkit does not: `make peers` makes an environment with them. Here a package that cannot be
imported skips its tests, unless SSAE_DEBIAS_PEERS is set, as `make peers` does: then it fails them.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ssae_debias.sae import SAEConfig, SparseAutoencoder, load_sae, save_sae, train_sae
from ssae_debias.sae.formats.card import model_card
from ssae_debias.sae.normalization import normalize_tokens

D, F, K = 8, 24, 3
TOLERANCE = 1e-5


def peer(name: str, package: str) -> ModuleType:
    """Another project's module, or a skip that says what is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("SSAE_DEBIAS_PEERS"):
            raise
        pytest.skip(f"needs {package}, see `make peers`; importing it: {str(error).splitlines()[0]}")


@pytest.fixture(scope="module")
def sae_lens() -> ModuleType:
    return peer("sae_lens", "sae-lens")


@pytest.fixture(scope="module")
def dictionaries() -> ModuleType:
    peer("dictionary_learning", "dictionary-learning")
    return importlib.import_module("dictionary_learning.training")


@pytest.fixture(scope="module")
def sparsify() -> ModuleType:
    os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")  # its kernels need a GPU; read when it is imported
    return peer("sparsify", "eai-sparsify")


def activations(n: int = 400, seed: int = 0) -> Tensor:
    """Raw activations: neither centred nor of one scale, and one coordinate large, as in real models."""
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(seed)) * 3 + 1
    x[:, 0] += 20
    return x


X = activations()


@torch.no_grad()
def randomise(module: torch.nn.Module, seed: int = 1, names: tuple[str, ...] = ()) -> Any:
    """Random weights everywhere, so that no bias of 0 or row of norm 1 hides a difference."""
    generator = torch.Generator().manual_seed(seed)
    for name, part in module.named_parameters():
        if not names or name in names:
            part.copy_(torch.randn(part.shape, generator=generator) * (0.5 if part.ndim > 1 else 1.0))
        if name == "threshold":
            part.abs_()
    return module


def agree(found: Tensor, expected: Tensor) -> None:
    """Largest difference of at most 1e-5 of the largest value."""
    found, expected = found.detach().double(), expected.detach().double()
    scale = float(expected.abs().max())
    assert scale > 0
    assert float((found - expected).abs().max()) <= TOLERANCE * scale


def require_sparse(code: Tensor) -> None:
    """Some latents are active and some are not, or the comparison shows nothing."""
    assert 0.02 < float((code > 0).double().mean()) < 0.98


# ---- ours in sae-lens


def ours(architecture: str, subtracted: bool, normalization: str) -> SparseAutoencoder:
    top_k = K if architecture == "ranked" else None
    config = SAEConfig(d_sae=F, k=K, architecture="topk" if top_k else architecture)  # type: ignore[arg-type]
    sae = SparseAutoencoder(
        D, config, apply_b_dec_to_input=subtracted, top_k=top_k, normalization=normalization,  # type: ignore[arg-type]
        metadata={"model_name": "tiny", "hook_name": "resid.3", "context_size": 128},
    )  # fmt: skip
    randomise(sae)
    with torch.no_grad():
        if architecture == "relu" or top_k:
            sae.threshold.zero_()
        elif architecture == "batchtopk":
            sae.threshold.fill_(1.5)
    return sae.eval()


@pytest.mark.parametrize("normalization", ["none", "constant_norm", "layer_norm"])
@pytest.mark.parametrize("subtracted", [True, False])
@pytest.mark.parametrize("architecture", ["relu", "topk", "batchtopk", "jumprelu", "ranked"])
def test_sae_lens_codes_and_reconstructs_as_ours(
    tmp_path: Path, sae_lens: ModuleType, architecture: str, subtracted: bool, normalization: str
) -> None:
    sae = ours(architecture, subtracted, normalization)
    save_sae(sae, tmp_path / "sae")
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    expected = {"relu": "standard", "ranked": "topk"}.get(architecture, "jumprelu")
    assert theirs.cfg.architecture() == expected
    assert theirs.cfg.metadata.hook_name == "resid.3"
    code = sae.encode(X)
    require_sparse(code)
    # theirs are in the normalised token's unit, ours in the activations' own
    scale = normalize_tokens(X, sae.normalization)[1]
    agree(theirs.encode(X) * scale, code)
    agree(theirs(X), sae(X))


@pytest.mark.parametrize("architecture", ["relu", "topk", "batchtopk", "jumprelu"])
def test_what_we_train_reconstructs_the_same_there(
    tmp_path: Path, sae_lens: ModuleType, architecture: str
) -> None:
    """Trained, not random: with the thresholds that training ends in, and specialised once."""
    # gentle settings: these runs are of 8 steps, and no latent shall be silent at their end
    gentle: dict[str, Any] = {"l1_coefficient": 0.05, "l0_coefficient": 0.001, "jumprelu_bandwidth": 0.1}
    config = SAEConfig(d_sae=F, k=K, architecture=architecture, batch_size=50, **gentle)  # type: ignore[arg-type]
    general = train_sae(X, config)
    special = train_sae(activations(seed=5), config, init=general)
    for name, sae in (("general", general), ("special", special)):
        save_sae(sae, tmp_path / name)
        theirs = sae_lens.SAE.load_from_disk(tmp_path / name)
        require_sparse(sae.encode(X))
        agree(theirs.encode(X), sae.encode(X))
        agree(theirs(X), sae(X))


@pytest.mark.parametrize("folder", ["", "run/resid.3"])
def test_the_code_on_the_model_card_loads_in_sae_lens(
    tmp_path: Path, sae_lens: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    import huggingface_hub

    sae = ours("batchtopk", True, "none")
    save_sae(sae, tmp_path / "snapshot" / folder)
    asked: list[dict[str, Any]] = []

    def snapshot_download(repo_id: str, revision: str | None = None) -> str:
        asked.append({"repo_id": repo_id, "revision": revision})
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    found: dict[str, Any] = {}
    exec(model_card({folder: sae}, "me/saes", "tilted").split("```python\n")[2].split("```")[0], found)
    assert asked == [{"repo_id": "me/saes", "revision": "tilted"}]
    assert isinstance(found["sae"], sae_lens.SAE)
    agree(found["sae"](X), sae(X))


# ---- sae-lens's here


INFERENCE = {
    "standard": ("StandardSAE", "StandardSAEConfig", {}),
    "gated": ("GatedSAE", "GatedSAEConfig", {}),
    "jumprelu": ("JumpReLUSAE", "JumpReLUSAEConfig", {}),
    "topk": ("TopKSAE", "TopKSAEConfig", {"k": K}),
    "topk_rescaled": ("TopKSAE", "TopKSAEConfig", {"k": K, "rescale_acts_by_decoder_norm": True}),
}


@pytest.mark.parametrize("normalize", ["none", "constant_norm_rescale", "layer_norm"])
@pytest.mark.parametrize("subtracted", [True, False])
@pytest.mark.parametrize("kind", INFERENCE)
def test_what_sae_lens_saves_codes_and_reconstructs_the_same_here(
    tmp_path: Path, sae_lens: ModuleType, kind: str, subtracted: bool, normalize: str
) -> None:
    name, config, options = INFERENCE[kind]
    cfg = getattr(sae_lens, config)(
        d_in=D, d_sae=F, apply_b_dec_to_input=subtracted, normalize_activations=normalize, **options
    )
    theirs = randomise(getattr(sae_lens, name)(cfg))
    theirs.save_model(tmp_path / "sae")
    sae = load_sae(tmp_path / "sae")
    code = theirs.encode(X)
    require_sparse(code)
    agree(sae.encode(X), code * normalize_tokens(X, sae.normalization)[1])
    agree(sae(X), theirs(X))


TRAINED = {
    "standard": ("StandardTrainingSAE", "StandardTrainingSAEConfig", {}),
    "gated": ("GatedTrainingSAE", "GatedTrainingSAEConfig", {}),
    "jumprelu": ("JumpReLUTrainingSAE", "JumpReLUTrainingSAEConfig", {}),
    "topk": ("TopKTrainingSAE", "TopKTrainingSAEConfig", {"k": K}),
    "batchtopk": ("BatchTopKTrainingSAE", "BatchTopKTrainingSAEConfig", {"k": K}),
    "matryoshka": (
        "MatryoshkaBatchTopKTrainingSAE", "MatryoshkaBatchTopKTrainingSAEConfig",
        {"k": K, "matryoshka_widths": [F // 2, F]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("factor", [None, 0.125])
def test_what_sae_lens_exports_after_training_reconstructs_the_same_here(
    tmp_path: Path, sae_lens: ModuleType, kind: str, factor: float | None
) -> None:
    """`save_inference_model`; with a factor, activations were scaled in training, and its trainer has folded it."""
    name, config, options = TRAINED[kind]
    theirs = randomise(getattr(sae_lens, name)(getattr(sae_lens, config)(d_in=D, d_sae=F, **options)))
    if hasattr(theirs, "topk_threshold"):
        theirs.topk_threshold.fill_(1.25)
    if factor is not None:
        theirs.fold_activation_norm_scaling_factor(factor)
    theirs.save_inference_model(tmp_path / "sae")
    back = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    sae = load_sae(tmp_path / "sae")
    require_sparse(back.encode(X))
    agree(sae(X), back(X))
    if not getattr(back.cfg, "rescale_acts_by_decoder_norm", False):
        agree(sae.encode(X), back.encode(X))


def test_a_checkpoint_of_sae_lens_with_its_scaler_acts_on_raw_activations(
    tmp_path: Path, sae_lens: ModuleType
) -> None:
    """Not folded yet: `normalize_activations` and the trainer's own ``activation_scaler.json`` say by how much."""
    scaler_class = importlib.import_module("sae_lens.training.activation_scaler").ActivationScaler
    scaler = scaler_class()
    scaler.estimate_scaling_factor(d_in=D, data_provider=iter([X, X]), n_batches_for_norm_estimate=2)
    cfg = sae_lens.StandardSAEConfig(d_in=D, d_sae=F, normalize_activations="expected_average_only_in")
    theirs = randomise(sae_lens.StandardSAE(cfg))
    theirs.save_model(tmp_path / "sae")
    scaler.save(str(tmp_path / "sae" / "activation_scaler.json"))
    sae = load_sae(tmp_path / "sae")
    require_sparse(sae.encode(X))
    agree(sae.encode(X), theirs.encode(scaler.scale(X)))
    agree(sae(X), scaler.unscale(theirs(scaler.scale(X))))
    assert scaler.scaling_factor == pytest.approx(D**0.5 / float(X.norm(dim=1).mean()))
    (tmp_path / "sae" / "activation_scaler.json").unlink()
    agree(load_sae(tmp_path / "sae", mean_norm=float(X.norm(dim=1).mean()))(X), sae(X))


PLACED = {"d_out": D, "apply_b_dec_to_input": False}
REFUSED = {
    "transcoder": ("Transcoder", "TranscoderConfig", PLACED),
    "skip_transcoder": ("SkipTranscoder", "SkipTranscoderConfig", PLACED),
    "jumprelu_transcoder": ("JumpReLUTranscoder", "JumpReLUTranscoderConfig", PLACED),
    "jumprelu_skip_transcoder": ("JumpReLUSkipTranscoder", "JumpReLUSkipTranscoderConfig", PLACED),
    "matching_pursuit": ("MatchingPursuitSAE", "MatchingPursuitSAEConfig", {}),
    "temporal": ("TemporalSAE", "TemporalSAEConfig", {"n_heads": 2, "bottleneck_factor": 2}),
    "abstopk": ("AbsTopKSAE", "AbsTopKSAEConfig", {"k": K}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_of_sae_lens_is_no_such_autoencoder_is_refused_by_name(
    tmp_path: Path, sae_lens: ModuleType, kind: str
) -> None:
    name, config, options = REFUSED[kind]
    getattr(sae_lens, name)(getattr(sae_lens, config)(d_in=D, d_sae=F, **options)).save_model(
        tmp_path / "sae"
    )
    with pytest.raises(ValueError, match=f"architecture is '{kind}'"):
        load_sae(tmp_path / "sae")


def test_whitening_that_is_not_folded_yet_is_refused_by_name(tmp_path: Path, sae_lens: ModuleType) -> None:
    cfg = sae_lens.StandardSAEConfig(d_in=D, d_sae=F, normalize_activations="covariance_whitening")
    sae_lens.StandardSAE(cfg).save_model(tmp_path / "sae")
    with pytest.raises(ValueError, match="normalize_activations is 'covariance_whitening'"):
        load_sae(tmp_path / "sae")


def test_every_architecture_of_sae_lens_is_here(sae_lens: ModuleType) -> None:
    """A release that adds one fails this test, so that somebody decides whether it can be read."""
    registry = importlib.import_module("sae_lens.registry")
    assert set(registry.SAE_CLASS_REGISTRY) == {*INFERENCE, *REFUSED} - {"topk_rescaled"}
    known = {kind.replace("matryoshka", "matryoshka_batchtopk") for kind in TRAINED}
    assert set(registry.SAE_TRAINING_CLASS_REGISTRY) == known | {"abstopk", "matching_pursuit"}


# ---- dictionary_learning's here


RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "AutoEncoder": ("standard", "StandardTrainer", {"sparsity_warmup_steps": 1}),
    "AutoEncoder, April": ("standard", "StandardTrainerAprilUpdate", {"sparsity_warmup_steps": 1}),
    "GatedAutoEncoder": ("gdm", "GatedSAETrainer", {"sparsity_warmup_steps": 1}),
    "JumpReluAutoEncoder": ("jumprelu", "JumpReluTrainer", {"sparsity_warmup_steps": 1}),
    "AutoEncoderTopK": ("top_k", "TopKTrainer", {"k": K, "threshold_start_step": 2}),
    "BatchTopKSAE": ("batch_top_k", "BatchTopKTrainer", {"k": K, "threshold_start_step": 2}),
    "MatryoshkaBatchTopKSAE": (
        "matryoshka_batch_top_k", "MatryoshkaBatchTopKTrainer",
        {"k": K, "threshold_start_step": 2, "group_fractions": [0.5, 0.5]},
    ),
}  # fmt: skip
STEPS = 12


class Buffer:
    """What `trainSAE` reads activations from; it scales batches in place, so each is handed out as a copy."""

    config: ClassVar = {"ctx_len": 128, "d_submodule": D}

    def __iter__(self) -> Iterator[Tensor]:
        for step in range(STEPS):
            yield activations(64, seed=10 + step)


MODULES = ("dictionary", "trainers.top_k", "trainers.batch_top_k", "trainers.matryoshka_batch_top_k")


def theirs_class(name: str) -> Any:
    for module in MODULES:
        found = getattr(importlib.import_module(f"dictionary_learning.{module}"), name, None)
        if found is not None:
            return found
    raise LookupError(name)


def theirs_of(name: str, folder: Path, config: dict[str, Any]) -> Any:
    """An ``ae.pt`` in the package's own class, without the rescaling that one of its loaders does on the way."""
    sizes = {"k": K} if "TopK" in name else {}
    if name.startswith("Matryoshka"):
        sizes["group_sizes"] = config["group_sizes"]
    made = theirs_class(name)(D, F, **sizes)
    made.load_state_dict(torch.load(folder / "ae.pt", weights_only=True))
    return made


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("run", RUNS)
def test_what_dictionary_learning_trains_and_saves_reconstructs_the_same_here(
    tmp_path: Path, dictionaries: ModuleType, run: str, normalize: bool
) -> None:
    """`trainSAE` itself writes the folder; then its weights are replaced by random ones and saved as it saves."""
    file, trainer, options = RUNS[run]
    options = options | {
        "trainer": getattr(importlib.import_module(f"dictionary_learning.trainers.{file}"), trainer),
        "activation_dim": D, "dict_size": F, "layer": 3, "lm_name": "tiny", "device": "cpu", "steps": STEPS,
        "warmup_steps": 1, "lr": 0.05, "seed": 0,
    }  # fmt: skip
    dictionaries.trainSAE(
        Buffer(), [options], STEPS, save_dir=str(tmp_path), save_steps=[8], normalize_activations=normalize,
        device="cpu",
    )  # fmt: skip
    folder = tmp_path / "trainer_0"
    config = json.loads((folder / "config.json").read_text())["trainer"]
    name = config["dict_class"]
    assert name == run.split(",")[0]
    unit: Any = 1.0
    for weights in ("trained", "random"):
        theirs = theirs_of(name, folder, config)
        if weights == "random":
            randomise(theirs)
            if hasattr(theirs, "k"):
                theirs.threshold.fill_(1.5)
            torch.save(theirs.state_dict(), folder / "ae.pt")
            require_sparse(theirs.encode(X))
        sae = load_sae(folder)
        if name in ("GatedAutoEncoder", "JumpReluAutoEncoder"):
            # measured here in lengths of what they write
            unit = theirs.W_dec.norm(dim=1) if hasattr(theirs, "W_dec") else theirs.decoder.weight.norm(dim=0)
        agree(sae.encode(X), theirs.encode(X) * unit)
        agree(sae(X), theirs(X))
    about = {"model_name": "tiny", "layer": 3, "context_size": 128, "format": f"dictionary_learning {name}"}
    assert about.items() <= sae.metadata.items()
    checkpoint = load_sae(folder / "checkpoints" / "ae_8.pt")
    assert checkpoint.d_sae == F


def test_the_classes_of_dictionary_learning_that_no_trainer_names_are_read_bare(
    tmp_path: Path, dictionaries: ModuleType
) -> None:
    module = importlib.import_module("dictionary_learning.dictionary")
    theirs = randomise(module.AutoEncoderNew(D, F))
    torch.save(theirs.state_dict(), tmp_path / "ae.pt")
    sae = load_sae(tmp_path)
    require_sparse(theirs.encode(X))
    agree(sae.encode(X), theirs.encode(X))
    agree(sae(X), theirs(X))


@pytest.mark.parametrize("name", ["AutoEncoderTopK", "BatchTopKSAE"])
def test_the_threshold_form_is_the_packages_own(tmp_path: Path, dictionaries: ModuleType, name: str) -> None:
    theirs = randomise(theirs_class(name)(D, F, k=K))
    theirs.threshold.fill_(1.5)
    torch.save(theirs.state_dict(), tmp_path / "ae.pt")
    sae = load_sae(tmp_path, use_threshold=True)
    code = theirs.encode(X, use_threshold=True)
    require_sparse(code)
    agree(sae.encode(X), code)
    agree(sae(X), theirs.decode(code))


# ---- sparsify's here


@pytest.mark.parametrize("options", [{"num_latents": F}, {"expansion_factor": F // D}])
def test_what_sparsify_saves_codes_and_reconstructs_the_same_here(
    tmp_path: Path, sparsify: ModuleType, options: dict[str, int]
) -> None:
    theirs = randomise(sparsify.SparseCoder(D, sparsify.SparseCoderConfig(k=K, **options)))
    theirs.save_to_disk(tmp_path / "layers.3")
    sae = load_sae(tmp_path / "layers.3")
    values, latents, _ = theirs.encode(X)
    code = torch.zeros(len(X), F).scatter(1, latents, values)
    require_sparse(code)
    agree(sae.encode(X), code)
    agree(sae(X), theirs(X).sae_out)
    assert sae.metadata["hook_name"] == "layers.3"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transcode": True}, "transcode is True"),
        ({"skip_connection": True}, "skip_connection is True"),
        ({"activation": "groupmax"}, "activation is 'groupmax'"),
    ],
)
def test_what_of_sparsify_is_no_such_autoencoder_is_refused_by_name(
    tmp_path: Path, sparsify: ModuleType, options: dict[str, Any], said: str
) -> None:
    cfg = sparsify.SparseCoderConfig(k=K, num_latents=F, **options)
    sparsify.SparseCoder(D, cfg).save_to_disk(tmp_path / "layers.3")
    with pytest.raises(ValueError, match=said):
        load_sae(tmp_path / "layers.3")
