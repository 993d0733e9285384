"""Which kernels a run is trained by, and that it does not matter: the result, its checkpoints, the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssae_debias.cli import main
from ssae_debias.ranks import ALONE
from ssae_debias.sae import SAEConfig, SparseAutoencoder, train_sae
from ssae_debias.sae.checkpoints import Checkpoints
from ssae_debias.sae.kernels import language
from ssae_debias.sae.kernels.language import why_unavailable
from ssae_debias.sae.steps import training_step, trial
from ssae_debias.sae.steps.training_step import TorchTrainingStep, make_training_step, why_not_triton
from ssae_debias.sae.steps.trial import why_untrusted
from ssae_debias.sae.steps.triton_step import TritonTrainingStep
from ssae_debias.sae.trainer import Trainer

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MISSING = why_unavailable(DEVICE)
needs_triton = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
CONFIG = SAEConfig(d_sae=20, k=3, batch_size=16, tilt=0.5, aux_k=2, dead_after_tokens=20, lr=3e-3)
TWO_RANKS: Any = type("TwoRanks", (), {"size": 2})()


def activations(n: int = 80) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(0)) + 0.5


def close(one: SparseAutoencoder, other: SparseAutoencoder) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@needs_triton
@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_run_ends_the_same_by_triton_and_by_torch(architecture: str, clip: float | None) -> None:
    config = SAEConfig.from_dict({**CONFIG.to_dict(), "architecture": architecture, "clip_grad_norm": clip})
    runs = [
        train_sae(
            activations(), config, validation=activations(20), kernels=kernels, log_every=1, device=DEVICE
        )
        for kernels in ("triton", "torch")
    ]
    close(*runs)
    assert runs[0].top_k == runs[1].top_k
    assert len(runs[0].history_) == len(runs[1].history_) == 5
    for ours, theirs in zip(runs[0].history_, runs[1].history_, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)


@needs_triton
@pytest.mark.parametrize(("first", "then"), [("torch", "triton"), ("triton", "torch")])
def test_a_killed_run_goes_on_by_the_other(
    first: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_sae(activations(), CONFIG, kernels="torch", log_every=1, device=DEVICE)
    settings: dict[str, Any] = {
        "checkpoint_dir": tmp_path, "checkpoint_every": 1, "log_every": 1, "device": DEVICE
    }  # fmt: skip
    save = Checkpoints.save

    def killed(self: Checkpoints, step: int, *state: Any) -> None:
        save(self, step, *state)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoints, "save", killed)
        train_sae(activations(), CONFIG, kernels=first, **settings)  # type: ignore[arg-type]
    steps: list[int] = []
    train_on = Trainer.train_on
    monkeypatch.setattr(
        Trainer, "train_on", lambda self, x: (steps.append(self.steps_done), train_on(self, x))[1]
    )
    resumed = train_sae(activations(), CONFIG, kernels=then, **settings)  # type: ignore[arg-type]
    assert steps == [3, 4]
    assert len(list(tmp_path.iterdir())) == 1  # one request, whichever kernels
    close(resumed, whole)
    assert resumed.history_[-1] == pytest.approx(whole.history_[-1], rel=1e-3, abs=1e-4)


@needs_triton
def test_the_trial_trusts_working_kernels_and_tells_of_broken_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TOKENS", 12)  # the interpreter goes token by token
    config = SAEConfig(d_sae=24, k=3, architecture="topk")
    assert why_untrusted(config, 7, DEVICE) is None

    class Slow(TritonTrainingStep):
        def step(self, sae, x, weigh, dead, lr):  # type: ignore[no-untyped-def]
            return super().step(sae, x, weigh, dead, lr / 2)

    monkeypatch.setattr(trial, "TritonTrainingStep", Slow)
    assert "differed from PyTorch's by 50%" in str(why_untrusted(config, 7, DEVICE))

    class Uncompiled(TritonTrainingStep):
        def step(self, sae, x, weigh, dead, lr):  # type: ignore[no-untyped-def]
            raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(trial, "TritonTrainingStep", Uncompiled)
    assert "RuntimeError: Failed to find C compiler" in str(why_untrusted(config, 7, DEVICE))


def test_nan_results_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_differences", lambda *_: {"b_enc": 0.3, "W_dec": float("nan")})
    assert "by nan% in W_dec" in str(why_untrusted(CONFIG, 6, torch.device("cpu")))
    monkeypatch.setattr(trial, "_differences", lambda *_: {"b_enc": 0.01})
    assert why_untrusted(CONFIG, 6, torch.device("cpu")) is None


def test_on_a_cpu_auto_is_torch_even_under_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "INTERPRETED", True)
    sae = SparseAutoencoder(6, CONFIG)
    assert isinstance(make_training_step(sae), TorchTrainingStep)
    assert isinstance(make_training_step(sae, kernels="torch"), TorchTrainingStep)


@pytest.mark.parametrize("untrusted", [None, "a trial of them failed: no compiler."])
def test_on_cuda_auto_is_triton_where_the_trial_agrees(
    untrusted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that only say that they are on CUDA: the choice is made before anything is computed."""
    monkeypatch.setattr(SparseAutoencoder, "device", property(lambda self: torch.device("cuda")))
    monkeypatch.setattr(training_step, "why_unavailable", lambda *_: None)
    monkeypatch.setattr(training_step, "why_untrusted", lambda *_: untrusted)
    sae = SparseAutoencoder(6, CONFIG)
    if untrusted is None:
        assert isinstance(make_training_step(sae), TritonTrainingStep)
    else:
        with pytest.warns(
            UserWarning, match="PyTorch's operators train: a trial of them failed: no compiler"
        ):
            assert isinstance(make_training_step(sae), TorchTrainingStep)
    assert isinstance(make_training_step(sae, kernels="torch"), TorchTrainingStep)
    assert isinstance(make_training_step(sae, kernels="triton"), TritonTrainingStep)
    relu = SparseAutoencoder(6, SAEConfig(d_sae=20, architecture="relu"))
    assert isinstance(make_training_step(relu), TorchTrainingStep)
    monkeypatch.setattr(training_step, "why_unavailable", lambda *_: "Triton is not installed.")
    assert isinstance(make_training_step(sae), TorchTrainingStep)


def test_triton_where_it_cannot_be_used_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert "serve topk and batchtopk, not jumprelu" in str(
        why_not_triton(SAEConfig(d_sae=20, architecture="jumprelu"), cuda)
    )
    assert "one rank, not 2" in str(why_not_triton(CONFIG, cuda, torch.float32, TWO_RANKS))
    with pytest.raises(ValueError, match="kernels='triton' cannot be used: .*not relu"):
        train_sae(activations(), SAEConfig(d_sae=20, architecture="relu"), kernels="triton")
    monkeypatch.setattr(language, "INTERPRETED", False)
    missing = "Triton is not installed" if language.tl is None else "need a CUDA device"
    assert missing in str(why_not_triton(CONFIG, torch.device("cpu"), torch.float32, ALONE))
    with pytest.raises(ValueError, match=f"kernels='triton' cannot be used: .*{missing}"):
        train_sae(activations(), CONFIG, kernels="triton")
    with pytest.raises(ValueError, match="kernels must be one of auto, torch, triton, got 'cuda'"):
        train_sae(activations(), CONFIG, kernels="cuda")  # type: ignore[arg-type]


def test_the_command_line_chooses_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "INTERPRETED", False)
    np.save(tmp_path / "x.npy", activations().numpy())
    asked = ["train", "--activations", str(tmp_path / "x.npy"), "--d-sae", "20", "--k", "3", "-q"]
    assert main([*asked, "--out", str(tmp_path / "sae"), "--kernels", "torch"]) == 0
    assert main([*asked, "--out", str(tmp_path / "other"), "--kernels", "triton"]) == 2
    assert "kernels='triton' cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
