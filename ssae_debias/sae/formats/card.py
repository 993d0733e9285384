"""The model card of pushed SAEs: what they are, how faithful, and how each of two packages loads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssae_debias.sae.autoencoder import SparseAutoencoder

# the hub shows what this library's SAEs are loaded with, and these are in its format
FRONT_MATTER = """---
library_name: saelens
tags:
- sparse-autoencoder
- ssae-debias
---
"""

COLUMNS = (
    "folder",
    "model",
    "site",
    "d_in",
    "d_sae",
    "architecture",
    "active are",
    "L0",
    "FVU",
    "measured on",
)
UNKNOWN = "–"


def model_card(saes: Mapping[str, SparseAutoencoder], repo_id: str, revision: str | None = None) -> str:
    """The text of a repository's ``README.md``.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder
        By folder in the repository, ``""`` for its root.
    repo_id : str
        ``owner/name``.
    revision : str, optional
        The branch, if it is not the repository's main one.

    Returns
    -------
    str
        Markdown with the hub's front matter. L0 and FVU are those of the last record of `history_`: of held-out
        activations if there were any, else of the last batch; an SAE without a history has none.

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig
    >>> sae = SparseAutoencoder(8, SAEConfig(d_sae=32, k=4), metadata={"hook_name": "resid.3"})
    >>> next(line for line in model_card({"layer": sae}, "me/saes").splitlines() if "layer" in line)
    '| layer | – | resid.3 | 8 | 32 | batchtopk | above threshold | – | – | – |'
    """
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_facts(folder, sae) for folder, sae in saes.items())]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    folder = next(iter(saes))
    below = f"/{folder}" if folder else ""
    at = "" if revision is None else f"@{revision}"
    asked = f'"{repo_id}"' if revision is None else f'"{repo_id}", revision="{revision}"'
    joined = f' + "{below}"' if folder else ""
    return f"""{FRONT_MATTER}
# Sparse autoencoders

Each writes the activations of a model at one site as a few directions out of a dictionary. They were saved with
ssae-debias, in the format of SAELens (`cfg.json`, `sae_weights.safetensors`); `manifest.json` holds the sha256 of
both, the settings of the training and its history.

{table}

L0 is the number of active latents per token, FVU the fraction of variance unexplained. The table is of the commit
that made this card.

With ssae-debias, which checks the manifest:

```python
from ssae_debias.sae import load_sae

sae = load_sae("hub:{repo_id}{at}{below}")
```

With sae-lens:

```python
from huggingface_hub import snapshot_download
from sae_lens import SAE

sae = SAE.load_from_disk(snapshot_download({asked}){joined})
```
{_note_on_units(saes)}"""


def _facts(folder: str, sae: SparseAutoencoder) -> tuple[str, ...]:
    fidelity = _fidelity(sae)
    return (
        folder or "(root)",
        _plain(sae.metadata.get("model_name")),
        _plain(sae.metadata.get("hook_name")),
        str(sae.d_in),
        str(sae.d_sae),
        sae.config.architecture,
        "above threshold" if sae.top_k is None else f"the {sae.top_k} largest",
        *fidelity,
    )


def _fidelity(sae: SparseAutoencoder) -> tuple[str, str, str]:
    if not sae.history_:
        return UNKNOWN, UNKNOWN, UNKNOWN
    last = sae.history_[-1]
    held_out = "validation_fvu" in last
    l0, fvu = (last.get(f"validation_{name}" if held_out else name) for name in ("l0", "fvu"))
    return _number(l0, ".1f"), _number(fvu, ".4f"), "held-out tokens" if held_out else "last batch"


def _number(value: Any, shape: str) -> str:
    return UNKNOWN if value is None else format(float(value), shape)


def _plain(value: Any) -> str:
    """A name from an SAE's metadata as one cell: it may come from a stranger's file."""
    if not isinstance(value, str) or not value.strip():
        return UNKNOWN
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|" else sign for sign in " ".join(value.split()))


def _note_on_units(saes: Mapping[str, SparseAutoencoder]) -> str:
    if all(sae.normalization == "none" for sae in saes.values()):
        return ""
    return """
An SAE here normalises each token. sae-lens gives its codes in the normalised token's unit, ssae-debias in the
activations' own; reconstructions are the same.
"""
