"""Training: what is learned, what tilt and AuxK change, and that runs repeat and resume bit for bit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ssae_debias.sae import ArraySource, SAEConfig, SparseAutoencoder, reconstruction_metrics, train_sae

D_IN, N_TRUE, ACTIVE = 24, 48, 3


def planted(n: int, seed: int = 0, rare: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens that are sums of a few of `N_TRUE` directions; on `rare` of them one more direction that no other has."""
    generator = torch.Generator().manual_seed(99)
    truth = torch.nn.functional.normalize(torch.randn(N_TRUE + 1, D_IN, generator=generator), dim=1)
    generator.manual_seed(seed)
    x = torch.zeros(n, D_IN)
    for _ in range(ACTIVE):
        chosen = torch.randint(N_TRUE, (n,), generator=generator)
        x += truth[chosen] * (1 + torch.rand(n, 1, generator=generator))
    x[:rare] += truth[N_TRUE] * 3
    return x + 0.5, truth


def same(one: SparseAutoencoder, other: SparseAutoencoder) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        # an L1 penalty shrinks and splits codes: it finds the directions less cleanly, as is known
        ({"architecture": "relu", "l1_coefficient": 1.0}, 0.6),
        ({"architecture": "topk"}, 0.9),
        ({"architecture": "batchtopk"}, 0.9),
        ({"architecture": "jumprelu", "l0_coefficient": 0.3, "jumprelu_bandwidth": 1.5}, 0.9),
    ],
)
def test_planted_directions_are_found(settings: dict[str, object], found: float) -> None:
    x, truth = planted(12_000)
    config = SAEConfig(d_sae=96, k=ACTIVE, batch_size=256, epochs=8, lr=4e-3, **settings)  # type: ignore[arg-type]
    sae = train_sae(x, config)

    def median_cosine(directions: torch.Tensor) -> float:
        return float((truth[:N_TRUE] @ directions.t()).max(1).values.median())

    untrained = SparseAutoencoder(D_IN, config)
    assert median_cosine(sae.W_dec.detach()) > found > 1.1 * median_cosine(untrained.W_dec.detach())
    assert reconstruction_metrics(sae, planted(2_000, seed=1)[0])["fvu"] < 0.3
    torch.testing.assert_close(sae.W_dec.detach().norm(dim=1), torch.ones(96))
    assert sae.top_k is None


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_thresholds_give_k_latents_a_token_at_inference(architecture: str) -> None:
    x, _ = planted(8_000)
    sae = train_sae(x, SAEConfig(d_sae=96, architecture=architecture, k=5, batch_size=256, epochs=3, lr=4e-3))
    assert reconstruction_metrics(sae, planted(2_000, seed=1)[0])["l0"] == pytest.approx(5, rel=0.1)
    assert float(sae.threshold.min()) > 0


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_tilt_serves_the_rare_concept_at_the_common_ones_cost(architecture: str) -> None:
    """Eight latents, sixteen common directions, one on a hundredth of the tokens: the mean risk drops that one."""
    rare, common = {0.0: 0.0, 1.0: 0.0}, {0.0: 0.0, 1.0: 0.0}
    for seed in (1, 2, 3):
        generator = torch.Generator().manual_seed(seed)
        directions = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0]
        concept = torch.randint(16, (6_000,), generator=generator)
        concept[:60] = 16
        lengths = (1 + torch.rand(6_000, 1, generator=generator)) * torch.where(concept == 16, 2.0, 1.0)[
            :, None
        ]
        x = directions[concept] * lengths
        for tilt in rare:
            config = SAEConfig(
                d_sae=8, architecture=architecture, k=1, batch_size=300, epochs=12, lr=1e-2, tilt=tilt
            )  # type: ignore[arg-type]
            sae = train_sae(x, config, random_state=seed + 100)
            errors = (x - sae(x)).detach().square().sum(1)
            rare[tilt] += float(errors[:60].mean())
            common[tilt] += float(errors[60:].mean())
    assert rare[1.0] < 0.5 * rare[0.0]
    assert common[0.0] < common[1.0] < 1.5 * common[0.0]


@pytest.mark.parametrize("tilt", [1e9, -2.0])
def test_extreme_tilts_train_to_finite_weights(tilt: float) -> None:
    sae = train_sae(planted(2_000)[0], SAEConfig(d_sae=64, k=ACTIVE, batch_size=200, tilt=tilt))
    assert all(bool(torch.isfinite(part).all()) for part in sae.parameters())
    sizes = [record["effective_sample_size"] for record in sae.history_]
    assert max(sizes) < 1.01 if tilt > 0 else min(sizes) > 10


def test_the_mean_tilt_and_the_result_do_not_depend_on_the_activations_unit() -> None:
    x, _ = planted(4_000)
    config = SAEConfig(d_sae=64, k=ACTIVE, batch_size=200, tilt=1.0)
    # a power of two: scaling by it loses no bit
    small, large = train_sae(x, config), train_sae(x * 1024, config)
    torch.testing.assert_close(large.W_dec, small.W_dec, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(large(x * 1024) / 1024, small(x), rtol=1e-3, atol=1e-3)
    raw = SAEConfig.from_dict(config.to_dict() | {"tilt_scale": "raw"})
    sizes = [train_sae(x * unit, raw).history_[-1]["effective_sample_size"] for unit in (0.01, 1.0, 100.0)]
    assert sizes[0] > 150 > sizes[2]
    assert sizes[0] > sizes[1] > sizes[2]


def test_dead_latents_are_revived() -> None:
    x, _ = planted(10_000)
    stillborn = SparseAutoencoder(D_IN, SAEConfig(d_sae=64, k=ACTIVE))
    with torch.no_grad():
        # too weak ever to be among the largest
        stillborn.W_enc[:, 16:] *= 0.05
    dead = {}
    for aux_k in (0, 12):
        config = SAEConfig(
            d_sae=64, k=ACTIVE, batch_size=200, epochs=4, lr=3e-3, aux_k=aux_k, aux_coefficient=1.0
        )
        dead[aux_k] = reconstruction_metrics(train_sae(x, config, init=stillborn), x)["dead_fraction"]
    assert dead[0] > 0.7
    assert dead[12] < 0.25


def test_fine_tuning_starts_from_the_general_dictionary() -> None:
    x, _ = planted(6_000)
    config = SAEConfig(d_sae=96, k=ACTIVE, batch_size=256, epochs=4, lr=4e-3)
    general = train_sae(x, config)
    before = {name: part.clone() for name, part in general.named_parameters()}
    gentle = SAEConfig(d_sae=96, k=ACTIVE, batch_size=100, n_tokens=1_000, lr=1e-4)
    special = train_sae(x[:1_000] * 1.3, gentle, init=general)
    cosine = (special.W_dec * general.W_dec).detach().sum(1)
    assert float(cosine.min()) > 0.99
    assert not same(special, general)
    assert all(torch.equal(part, before[name]) for name, part in general.named_parameters())
    with pytest.raises(ValueError, match="96"):
        train_sae(x, SAEConfig(d_sae=64, k=3), init=general)


def test_seeds_decide_everything() -> None:
    x, _ = planted(2_000)
    config = SAEConfig(d_sae=64, k=ACTIVE, batch_size=200)
    assert same(train_sae(x, config, random_state=3), train_sae(x, config, random_state=3))
    assert not same(train_sae(x, config, random_state=3), train_sae(x, config, random_state=4))
    draws = [train_sae(x, config, random_state=np.random.default_rng(0)) for _ in range(2)]
    assert same(*draws)


class Streamed:
    """A source that hands out its batches as a store would, and can break off."""

    def __init__(self, x: torch.Tensor, break_after: int | None = None) -> None:
        self._inner = ArraySource(x)
        self.n_tokens, self.d_in, self.fingerprint = len(x), x.shape[1], "streamed"
        self.left = break_after

    def batches(
        self, batch_size: int, *, shuffle: bool = True, random_state: int | None = None
    ) -> Iterator[torch.Tensor]:
        for batch in self._inner.batches(batch_size, shuffle=shuffle, random_state=random_state):
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
            yield batch


@pytest.mark.parametrize("architecture", ["batchtopk", "topk", "jumprelu"])
def test_an_interrupted_run_resumes_bit_for_bit(tmp_path: Path, architecture: str) -> None:
    x, _ = planted(3_000)
    config = SAEConfig(d_sae=64, architecture=architecture, k=ACTIVE, batch_size=200, epochs=3, tilt=1.0)
    options = {"validation": x[:200], "log_every": 10}
    whole = train_sae(Streamed(x), config, **options)
    # the sample takes one pass of 15 batches; break off in the second epoch
    with pytest.raises(KeyboardInterrupt):
        train_sae(Streamed(x, 15 + 22), config, checkpoint_dir=tmp_path, checkpoint_every=7, **options)
    rest = train_sae(Streamed(x), config, checkpoint_dir=tmp_path, checkpoint_every=7, **options)
    assert same(whole, rest)
    assert whole.history_ == rest.history_
    # a finished request needs no further step: only the sample is read again
    again = train_sae(Streamed(x, 15 + 45), config, checkpoint_dir=tmp_path, **options)
    assert same(whole, again)


SCRIPT = """
import sys, numpy, torch
torch.set_num_threads(1)
from ssae_debias.sae import SAEConfig, train_sae
x, config = torch.from_numpy(numpy.load(sys.argv[1])), SAEConfig.from_dict(eval(sys.argv[2]))
sae = train_sae(x, config, checkpoint_dir=sys.argv[3], checkpoint_every=20)
sae.save_pretrained(sys.argv[4])
"""


def test_a_run_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    x, _ = planted(6_000)
    np.save(tmp_path / "x.npy", x.numpy())
    config = SAEConfig(d_sae=512, k=4, batch_size=256, epochs=30, tilt=0.3)
    checkpoints, out = tmp_path / "checkpoints", tmp_path / "sae"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        SCRIPT,
        tmp_path / "x.npy",
        str(config.to_dict()),
        checkpoints,
        out,
    ]

    kills = 0
    for _ in range(2):
        process = subprocess.Popen(command)
        seen = _steps(checkpoints)
        while process.poll() is None and _steps(checkpoints) <= seen:
            time.sleep(0.002)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    subprocess.run(command, check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = train_sae(x, config)
    torch.set_num_threads(threads)
    resumed = SparseAutoencoder.from_pretrained(out)
    assert same(resumed, whole)
    assert resumed.history_ == whole.history_


def _steps(folder: Path) -> str:
    return max((path.name for path in folder.glob("*/step-*")), default="")


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    x, _ = planted(2_000)
    config = SAEConfig(d_sae=64, k=ACTIVE, batch_size=200)
    whole = train_sae(x, config, checkpoint_dir=tmp_path, checkpoint_every=4)
    newest = sorted(tmp_path.glob("*/step-*"))[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="damaged"):
        assert same(whole, train_sae(x, config, checkpoint_dir=tmp_path, checkpoint_every=4))


def test_other_data_or_settings_never_continue_a_checkpoint(tmp_path: Path) -> None:
    x, _ = planted(2_000)
    config = SAEConfig(d_sae=64, k=ACTIVE, batch_size=200)
    for data, seed in ((x, 0), (x + 1, 0), (x, 1)):
        resumable = train_sae(data, config, checkpoint_dir=tmp_path, random_state=seed)
        assert same(resumable, train_sae(data, config, random_state=seed))
    assert len(list(tmp_path.iterdir())) == 3


def test_history_says_what_happened() -> None:
    x, _ = planted(4_000)
    config = SAEConfig(d_sae=64, k=ACTIVE, batch_size=300, n_tokens=5_000)
    sae = train_sae(x, config, validation=x[:500].numpy(), log_every=5)
    first, last = sae.history_[0], sae.history_[-1]
    assert (first["step"], last["tokens"]) == (1, 5_000)
    assert last["fvu"] < first["fvu"]
    assert last["l0"] == pytest.approx(ACTIVE)
    assert (
        last["effective_sample_size"] == pytest.approx(200, abs=1.1) or last["effective_sample_size"] <= 300
    )
    # at the last step the weights recorded are those returned
    errors = reconstruction_metrics(sae, x[:500])
    assert last["validation_tail_error"] == pytest.approx(errors["tail_error"], rel=1e-3)
    assert last["validation_fvu"] == pytest.approx(errors["fvu"], rel=1e-3)


def test_float16_arrays_and_memory_maps_are_read(tmp_path: Path) -> None:
    x = planted(1_000)[0].half()
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    config = SAEConfig(d_sae=32, k=2, batch_size=100)
    assert same(train_sae(mapped, config), train_sae(x.float(), config))


@pytest.mark.parametrize(
    ("activations", "error", "said"),
    [
        (torch.full((5, 4), float("nan")), ValueError, "5 of 5 rows"),
        (torch.zeros(5, 4), ValueError, "zero"),
        (torch.zeros(5), ValueError, "shape"),
        (np.ones((5, 4), dtype=int), TypeError, "floating"),
        ([[1.0]], TypeError, "list"),
    ],
)
def test_unusable_activations_are_named(activations: object, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        train_sae(activations, SAEConfig(d_sae=8, k=2))  # type: ignore[arg-type]


def test_one_infinite_value_in_a_stream_stops_the_run() -> None:
    x, _ = planted(500)
    x[321, 3] = float("inf")
    source = Streamed(torch.zeros(1, D_IN) + 1)
    source.n_tokens = 500
    source.batches = lambda size, shuffle=True, random_state=None: iter(x.split(size))  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="1 of 100 rows, first in row 21"):
        train_sae(source, SAEConfig(d_sae=8, k=2, batch_size=100))


def test_checkpoints_need_an_int_seed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="int random_state"):
        train_sae(planted(100)[0], SAEConfig(d_sae=8, k=2), checkpoint_dir=tmp_path, random_state=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"d_sae": 0}, ValueError, "d_sae"),
        ({"d_sae": 8.0}, TypeError, "d_sae"),
        ({"d_sae": 8, "k": 9}, ValueError, "k must not exceed"),
        ({"d_sae": 8, "k": 2, "tilt": float("nan")}, ValueError, "tilt"),
        ({"d_sae": 8, "k": 2, "tilt_scale": "median"}, ValueError, "tilt_scale"),
        ({"d_sae": 8, "k": 2, "lr": -1.0}, ValueError, "lr"),
        ({"d_sae": 8, "k": 2, "warmup_fraction": 0.8, "decay_fraction": 0.8}, ValueError, "together"),
    ],
)
def test_impossible_settings_are_named(fields: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        SAEConfig(**fields)  # type: ignore[arg-type]


def test_real_tokens_leave_few_latents_dead(shared: Path, minilm_path: Path, bios_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    from ssae_debias.activations import load_model, read_tokens

    texts = pd.read_parquet(bios_path)["text"].sample(120, random_state=0).tolist()
    batches = read_tokens(load_model(minilm_path), texts, ["resid.3"], max_length=96)
    x = torch.cat([batch.activations["resid.3"] for batch in batches])
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    train, held_out = x[:-1_000], x[-1_000:]
    sae = train_sae(train, SAEConfig(d_sae=512, k=32, batch_size=256, epochs=6))
    metrics = reconstruction_metrics(sae, held_out)
    assert metrics["fvu"] < 0.25
    assert metrics["l0"] == pytest.approx(32, rel=0.15)
    assert sae.history_[-1]["dead_fraction"] < 0.05
