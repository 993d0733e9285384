"""The Sparse Feature Circuits release: one dictionary_learning autoencoder for each site of a model.

    {root}/embed/10_32768/ae.pt
    {root}/attn_out_layer{i}/10_32768/ae.pt        our site attn.i
    {root}/mlp_out_layer{i}/10_32768/ae.pt         our site mlp.i
    {root}/resid_out_layer{i}/10_32768/ae.pt       our site resid.i

The folder in between names a training run; any name will do, as long as there is one.

References
----------
Marks et al., "Sparse Feature Circuits" (2025): the dictionaries of Pythia-70m-deduped (``download_dictionaries``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.formats.dictionary_learning import WEIGHTS
from ssae_debias.sae.formats.hub import local_path
from ssae_debias.sae.formats.loading import load_sae

_SUBMODULE = re.compile(r"embed|(attn|mlp|resid)_out_layer(\d+)")


def release_sites(root: str | os.PathLike[str]) -> dict[str, Path]:
    """Our sites and their folders under a release's root, in forward order; empty where it is no release.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("embed", "resid_out_layer10", "attn_out_layer2"):
    ...     (root / name / "10_32768").mkdir(parents=True)
    ...     (root / name / "10_32768" / "ae.pt").touch()
    >>> list(release_sites(root))
    ['embed', 'attn.2', 'resid.10']
    """
    found = {}
    for folder in Path(root).iterdir() if Path(root).is_dir() else ():
        match = _SUBMODULE.fullmatch(folder.name)
        if match and folder.is_dir() and (_runs(folder) or (folder / WEIGHTS).is_file()):
            layer = -1 if match[2] is None else int(match[2])
            found[layer, match[1] or ""] = (f"{match[1]}.{layer}" if match[1] else "embed", folder)
    # attn < mlp < resid, as in a block
    return dict(found[place] for place in sorted(found))


def release_folder(root: str | os.PathLike[str], site: str) -> Path:
    """The folder of a site's ``ae.pt``.

    Raises
    ------
    ValueError
        The release has none for `site`, or several and nothing says which.
    """
    sites = release_sites(root)
    if site not in sites:
        raise ValueError(
            f"{root} holds no dictionary for {site}; it has {', '.join(sites) or 'none in this layout'}."
        )
    if (sites[site] / WEIGHTS).is_file():
        return sites[site]
    runs = _runs(sites[site])
    if len(runs) > 1:
        raise ValueError(
            f"{sites[site]} holds several dictionaries: {', '.join(run.name for run in runs)}. Give the folder of "
            f"one for {site}, or leave only one there."
        )
    return runs[0]


def load_release(root: str | os.PathLike[str], sites: Sequence[str]) -> dict[str, SparseAutoencoder]:
    """Read the dictionaries of some sites.

    Parameters
    ----------
    root : path-like
        The folder with ``embed``, ``attn_out_layer0``, …; or ``hub:owner/name`` (see `load_sae`).
    sites : sequence of str
        `embed`, `attn.i`, `mlp.i`, `resid.i`, i from 0.

    Returns
    -------
    dict of str to SparseAutoencoder
        By site, in the order asked for.

    Raises
    ------
    FileNotFoundError
        No such folder.
    ValueError
        A site without a dictionary, or with several.
    DamagedFileError
        See `load_sae`.

    Examples
    --------
    >>> import tempfile, torch
    >>> root = Path(tempfile.mkdtemp())
    >>> (root / "resid_out_layer4" / "10_32768").mkdir(parents=True)
    >>> weights = {"bias": torch.ones(2), "encoder.weight": torch.ones(3, 2), "encoder.bias": torch.zeros(3),
    ...            "decoder.weight": torch.ones(2, 3)}
    >>> torch.save(weights, root / "resid_out_layer4" / "10_32768" / "ae.pt")
    >>> load_release(root, ["resid.4"])["resid.4"](torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """
    folder = local_path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; a release has embed, attn_out_layer0, … in one.")
    # all sites are looked up before the first is read: a missing one is said at once
    places = {site: release_folder(folder, site) for site in sites}
    return {site: load_sae(place) for site, place in places.items()}


def _runs(folder: Path) -> list[Path]:
    return sorted(run for run in folder.iterdir() if (run / WEIGHTS).is_file())
