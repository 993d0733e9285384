"""dictionary_learning files in each class, against the classes' published formulas; and whole releases of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssae_debias.edit import edit_latents
from ssae_debias.files import DamagedFileError
from ssae_debias.sae import load_release, load_sae, save_sae
from ssae_debias.sae.formats import release_sites

D, F, K = 6, 20, 4
X = 2 * torch.randn(50, D, generator=torch.Generator().manual_seed(7))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(100 * seed + sum(shape)))


LINEAR = {"encoder.weight": draw(F, D), "encoder.bias": draw(F) / 2, "decoder.weight": draw(D, F, seed=1)}
PLAIN = {"W_enc": draw(D, F), "b_enc": draw(F) / 2, "W_dec": draw(F, D, seed=1), "b_dec": draw(D)}
RANK = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(1.5)}
GROUPS = {"group_sizes": torch.tensor([5, 15])}

STATES: dict[str, dict[str, Tensor]] = {
    "AutoEncoder": {"bias": draw(D), **LINEAR},
    "AutoEncoderNew": {**LINEAR, "decoder.bias": draw(D)},
    "GatedAutoEncoder": {
        "decoder_bias": draw(D), "r_mag": draw(F, seed=2) / 2, "gate_bias": draw(F, seed=3), "mag_bias": draw(F, seed=4),
        "encoder.weight": LINEAR["encoder.weight"], "decoder.weight": LINEAR["decoder.weight"],
    },
    "AutoEncoderTopK": {**LINEAR, "b_dec": draw(D), **RANK},
    "BatchTopKSAE": {**LINEAR, "b_dec": draw(D), **RANK},
    "MatryoshkaBatchTopKSAE": {**PLAIN, **RANK, **GROUPS},
    "JumpReluAutoEncoder": {**PLAIN, "threshold": draw(F, seed=5).abs()},
}  # fmt: skip


def largest(f: Tensor) -> Tensor:
    kept = torch.zeros_like(f)
    for row, values in enumerate(f):
        best = values.argsort(descending=True)[:K]
        kept[row, best] = values[best]
    return kept


def published(name: str, w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and reconstruction by the class's own formulas, in float64."""
    w = {key: part.double() for key, part in w.items()}
    x = x.double()
    if name == "AutoEncoder":
        f = ((x - w["bias"]) @ w["encoder.weight"].T + w["encoder.bias"]).relu()
        return f, f @ w["decoder.weight"].T + w["bias"]
    if name == "AutoEncoderNew":
        f = (x @ w["encoder.weight"].T + w["encoder.bias"]).relu()
        return f, f @ w["decoder.weight"].T + w["decoder.bias"]
    if name == "GatedAutoEncoder":
        u = (x - w["decoder_bias"]) @ w["encoder.weight"].T
        f = (u + w["gate_bias"] > 0) * (w["r_mag"].exp() * u + w["mag_bias"]).relu()
        norms = w["decoder.weight"].norm(dim=0)
        return f * norms, f @ w["decoder.weight"].T + w["decoder_bias"]
    if name == "JumpReluAutoEncoder":
        p = x @ w["W_enc"] + w["b_enc"]
        f = (p * (p > w["threshold"])).relu()
        return f * w["W_dec"].norm(dim=1), f @ w["W_dec"] + w["b_dec"]
    if name == "MatryoshkaBatchTopKSAE":
        f = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
        f = f * (f > w["threshold"])
        return f, f @ w["W_dec"] + w["b_dec"]
    f = ((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]).relu()
    f = largest(f) if name == "AutoEncoderTopK" else f * (f > w["threshold"])
    return f, f @ w["decoder.weight"].T + w["b_dec"]


def write(folder: Path, name: str, state: Any = None, config: bool = True, **trainer: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(STATES[name] if state is None else state, folder / "ae.pt")
    if config:
        about = {
            "dict_class": name,
            "lm_name": "EleutherAI/pythia-70m",
            "layer": 3,
            "device": "cuda:0",
            **trainer,
        }
        if name in ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
            about.setdefault("k", K)
        settings = {"trainer": about, "buffer": {"ctx_len": 128, "d_submodule": D}}
        (folder / "config.json").write_text(json.dumps(settings))
    return folder


def agree(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", STATES)
def test_every_class_codes_and_reconstructs_as_published(tmp_path: Path, name: str) -> None:
    sae = load_sae(write(tmp_path / "trainer_0", name))
    f, x_hat = published(name, STATES[name], X)
    assert 0.05 < float((f > 0).double().mean()) < 0.9
    agree(sae(X), x_hat)
    agree(sae.encode(X), f)
    assert sae.metadata == {
        "format": f"dictionary_learning {name}", "model_name": "EleutherAI/pythia-70m", "layer": 3, "context_size": 128,
    }  # fmt: skip
    # the weights file alone says the same, and it can be saved as ours
    assert torch.equal(load_sae(tmp_path / "trainer_0" / "ae.pt")(X), sae(X))
    save_sae(sae, tmp_path / "ours")
    agree(load_sae(tmp_path / "ours")(X), x_hat)


@pytest.mark.parametrize("name", [name for name in STATES if name != "AutoEncoderTopK"])
def test_single_latents_are_edited_exactly(tmp_path: Path, name: str) -> None:
    sae = load_sae(write(tmp_path / "trainer_0", name))
    f, _ = published(name, STATES[name], X)
    rows = sae.W_dec.detach().double()[[2, 5]]
    expected = X.double() - f[:, [2, 5]] @ rows
    assert (f[:, [2, 5]] > 0).any(0).all()
    agree(edit_latents(sae, [2, 5])(X), expected)


def test_topk_latents_are_edited_by_projection_or_with_the_threshold_of_the_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "trainer_0", "AutoEncoderTopK")
    with pytest.raises(ValueError, match=r"project.*use_threshold=True"):
        edit_latents(load_sae(folder), [2])
    sae = load_sae(folder, use_threshold=True)
    f, x_hat = published("BatchTopKSAE", STATES["BatchTopKSAE"], X)
    agree(sae(X), x_hat)
    agree(edit_latents(sae, [2])(X), X.double() - f[:, [2]] @ sae.W_dec.detach().double()[[2]])


@pytest.mark.parametrize("name", ["AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"])  # fmt: skip
def test_a_bare_file_is_recognised_by_its_tensors(tmp_path: Path, name: str) -> None:
    sae = load_sae(write(tmp_path / "10_32768", name, config=False))
    agree(sae(X), published(name, STATES[name], X)[1])
    assert sae.metadata == {"format": f"dictionary_learning {name}"}


def test_a_bare_file_of_either_topk_class_asks_which(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", "BatchTopKSAE", config=False)
    with pytest.raises(ValueError, match=r"AutoEncoderTopK or a BatchTopKSAE.*config\.json.*use_threshold"):
        load_sae(folder)
    for use_threshold, name in ((True, "BatchTopKSAE"), (False, "AutoEncoderTopK")):
        agree(load_sae(folder, use_threshold=use_threshold)(X), published(name, STATES[name], X)[1])


@pytest.mark.parametrize("name", ["AutoEncoder", "GatedAutoEncoder", "BatchTopKSAE", "AutoEncoderTopK", "JumpReluAutoEncoder"])  # fmt: skip
@pytest.mark.parametrize("as_tensor", [True, False])
def test_a_backup_acts_on_raw_activations(tmp_path: Path, name: str, as_tensor: bool) -> None:
    factor = 11.5
    state = {
        "step": 400,
        "ae": STATES[name],
        "optimizer": torch.optim.Adam([torch.nn.Parameter(draw(2, 2))], lr=0.1).state_dict(),
        "config": {"dict_class": name, "lm_name": "gpt2", **({"k": K} if "TopK" in name else {})},
        "norm_factor": torch.tensor(factor) if as_tensor else factor,
    }
    sae = load_sae(write(tmp_path / "trainer_1", name, state, config=False))
    agree(sae(factor * X) / factor, published(name, STATES[name], X)[1])
    assert sae.metadata["model_name"] == "gpt2"
    state["norm_factor"] = float("nan")
    with pytest.raises(DamagedFileError, match="norm_factor"):
        load_sae(write(tmp_path / "trainer_1", name, state, config=False))
    del state["norm_factor"]
    with pytest.raises(ValueError, match="backup without norm_factor"):
        load_sae(write(tmp_path / "trainer_1", name, state, config=False))


def test_a_checkpoint_takes_the_config_of_its_trainer(tmp_path: Path) -> None:
    write(tmp_path / "trainer_0", "BatchTopKSAE")
    (tmp_path / "trainer_0" / "checkpoints").mkdir()
    file = tmp_path / "trainer_0" / "checkpoints" / "ae_1000.pt"
    (tmp_path / "trainer_0" / "ae.pt").rename(file)
    agree(load_sae(file)(X), published("BatchTopKSAE", STATES["BatchTopKSAE"], X)[1])


def test_a_threshold_not_yet_measured_is_no_threshold(tmp_path: Path) -> None:
    unset = STATES["BatchTopKSAE"] | {"threshold": torch.tensor(-1.0)}
    folder = write(tmp_path / "run", "BatchTopKSAE", unset)
    with pytest.raises(ValueError, match=r"not set.*use_threshold=False"):
        load_sae(folder)
    sae = load_sae(folder, use_threshold=False)
    agree(sae(X), published("AutoEncoderTopK", unset, X)[1])
    assert sae.top_k == K


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda s: s | {"bias": draw(D + 1)}, DamagedFileError, "expected"),
        (lambda s: s | {"bias": draw(D, 1)}, DamagedFileError, "one dimension"),
        (lambda s: s | {"bias": draw(D).double()}, DamagedFileError, "one floating type"),
        (lambda s: {name: part.long() for name, part in s.items()}, DamagedFileError, "one floating type"),
        (lambda s: s | {"encoder.bias": draw(F).log()}, DamagedFileError, "NaN or infinity in encoder.bias"),
        (lambda s: s | {"encoder.weight": s["encoder.weight"].T}, DamagedFileError, "expected"),
        (
            lambda s: {name: part for name, part in s.items() if name != "bias"},
            DamagedFileError,
            "no AutoEncoder",
        ),
        (lambda s: s | {"spare": draw(1)}, DamagedFileError, "spare"),
        (lambda s: s | {"bias": "0.5"}, DamagedFileError, "a str under 'bias', expected a tensor"),
        (lambda s: list(s.values()), DamagedFileError, "a list, expected"),
        (lambda s: {}, DamagedFileError, "nothing, expected"),
    ],
)
def test_wrong_weights_are_named(
    tmp_path: Path, change: Callable[[Any], Any], error: type[Exception], said: str
) -> None:
    folder = write(tmp_path / "run", "AutoEncoder", change(STATES["AutoEncoder"]))
    with pytest.raises(error, match=said):
        load_sae(folder)


@pytest.mark.parametrize(
    ("name", "trainer", "said"),
    [
        ("AutoEncoder", {"dict_class": "CrossCoder"}, "dict_class is 'CrossCoder'.*AutoEncoder"),
        ("AutoEncoder", {"dict_class": "BatchTopKSAE"}, "no BatchTopKSAE"),
        ("BatchTopKSAE", {"k": K + 1}, "k is 4 and 5"),
        ("AutoEncoderTopK", {"k": "4"}, "k is 4 and 4"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused(
    tmp_path: Path, name: str, trainer: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        load_sae(write(tmp_path / "run", name, **trainer))


def test_an_option_of_no_use_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", "AutoEncoder")
    with pytest.raises(ValueError, match="one form only"):
        load_sae(folder, use_threshold=True)
    with pytest.raises(ValueError, match="dictionary_learning, which has no mean_norm"):
        load_sae(folder, mean_norm=2.0)


SITES = {
    "embed": "embed", "attn.0": "attn_out_layer0", "mlp.0": "mlp_out_layer0", "resid.0": "resid_out_layer0",
    "resid.10": "resid_out_layer10",
}  # fmt: skip


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for number, name in enumerate(SITES.values()):
        state = STATES["AutoEncoder"] | {"bias": draw(D, seed=number)}
        write(tmp_path / "release" / name / "10_32768", "AutoEncoder", state, config=False)
    (tmp_path / "release" / "README.md").write_text("about")
    return tmp_path / "release"


def test_a_release_is_read_site_by_site(release: Path) -> None:
    assert list(release_sites(release)) == ["embed", "attn.0", "mlp.0", "resid.0", "resid.10"]
    saes = load_release(release, list(SITES)[::-1])
    assert list(saes) == list(SITES)[::-1]
    for number, site in enumerate(SITES):
        state = STATES["AutoEncoder"] | {"bias": draw(D, seed=number)}
        agree(saes[site](X), published("AutoEncoder", state, X)[1])


def test_a_site_that_a_release_lacks_or_has_twice_is_named(release: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.*mlp\.7|mlp\.7.*embed, attn\.0"):
        load_release(release, ["embed", "mlp.7"])
    write(release / "embed" / "5_1024", "AutoEncoder", config=False)
    with pytest.raises(ValueError, match="several dictionaries: 10_32768, 5_1024"):
        load_release(release, ["embed"])
    assert list(load_release(release, ["mlp.0"])) == ["mlp.0"]
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_release(tmp_path / "nowhere", ["embed"])
    assert release_sites(tmp_path / "nowhere") == {}
