"""Tables of proposed latents: made from effects, overruled by a person, written out to be judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.files import DamagedFileError, file_aside, read_json
from ssae_debias.latents import FlagRule

KINDS = ("gsae", "ssae")
COLUMNS = ["sae", "site", "latent", "attribution", "decision", "reason", "top_tokens"]


def propose(
    effects: Mapping[str, NDArray[np.float64]],
    numbers: Mapping[str, NDArray[np.int64]],
    *,
    threshold: float | None = None,
    n_latents: int | None = None,
) -> pd.DataFrame:
    """Flag latents above a threshold, or the strongest of all sites together.

    Effects are signed: a latent whose ablation helps the decision is never among the strongest.

    Parameters
    ----------
    effects : mapping of str to ndarray of shape (d_sae,)
        By site.
    numbers : mapping of str to ndarray of int64
        Which latents of each site may be proposed.
    threshold, n_latents : float, int or None
        One of the two. Where effects tie for the last place, none of them is taken.

    Returns
    -------
    DataFrame
        Columns `site`, `latent`, `attribution`, `score`, `decision` and `reason`, a row for each of `numbers`.

    Examples
    --------
    >>> effects, numbers = {"embed": np.array([0.3, -0.9, 0.2])}, {"embed": np.array([0, 1, 2])}
    >>> table = propose(effects, numbers, n_latents=1)
    >>> table.loc[table["decision"] == "ablate", "latent"].tolist()
    [0]
    """
    evidence = pd.concat(
        [
            pd.DataFrame({"site": site, "latent": chosen, "attribution": effects[site][chosen]})
            for site, chosen in numbers.items()
        ],
        ignore_index=True,
    )
    if threshold is None:
        assert n_latents is not None
        ordered = np.sort(evidence["attribution"].to_numpy())[::-1]
        threshold = max(0.0, float(ordered[n_latents])) if n_latents < len(ordered) else 0.0
    return FlagRule("attribution", min_attribution=threshold).decide(evidence)


def read_decisions(path: str | Path, kinds: tuple[str, ...]) -> pd.DataFrame:
    """A person's decisions from a CSV or JSON file.

    Parameters
    ----------
    path : path-like
        CSV with a heading, or a JSON list of objects: site, latent, decision, and sae (gsae or ssae). Other
        columns are passed over.
    kinds : tuple of str
        Whose latents the run ablates. Decisions that do not say whose they are belong to the only kind.

    Returns
    -------
    DataFrame
        Columns `sae`, `site`, `latent` and `decision`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFileError
        It is neither.
    ValueError
        A column is missing, a value is not allowed, two decisions contradict each other, or it does not say
        whose latents are meant.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"shift.decisions: there is no file {file}.")
    table = _read(file)
    missing = [name for name in ("site", "latent", "decision") if name not in table]
    if missing:
        raise ValueError(f"{file} has no column {', '.join(missing)}; it has {', '.join(table) or 'none'}.")
    if "sae" not in table or table["sae"].isna().any():
        if len(kinds) > 1:
            raise ValueError(
                f"{file} does not say of every latent whose it is, and the run has GSAEs and SSAEs: add a column "
                "sae with gsae or ssae."
            )
        known = table["sae"] if "sae" in table else pd.Series(None, index=table.index, dtype=object)
        table["sae"] = known.fillna(kinds[0])
    for name, allowed in (("sae", KINDS), ("decision", ("ablate", "keep"))):
        others = sorted({str(value) for value in table[name]} - set(allowed))
        if others:
            raise ValueError(f"{file}: {name} is {' or '.join(allowed)}; got {', '.join(others)}.")
    latents = pd.to_numeric(table["latent"], errors="coerce")
    if latents.isna().any() or (latents % 1 != 0).any():
        raise ValueError(f"{file}: latent holds numbers from 0; got {table['latent'].tolist()[:5]}.")
    table = table.assign(latent=latents.astype(np.int64))[["sae", "site", "latent", "decision"]]
    table = table.drop_duplicates(ignore_index=True)
    twice = table[table.duplicated(["sae", "site", "latent"])]
    if len(twice):
        sae, site, latent = twice.iloc[0][["sae", "site", "latent"]]
        raise ValueError(f"{file} says both ablate and keep of latent {latent} of {site} ({sae}).")
    return table


def write_table(path: Path, table: pd.DataFrame, sae: str, top_tokens: Mapping[tuple[str, int], str]) -> None:
    """Write the latents that were proposed or decided on, strongest first within each site, as CSV."""
    shown = table[(table["decision"] == "ablate") | (table["reason"] == "decided by a person")]
    keys = zip(shown["site"], shown["latent"], strict=True)
    shown = shown.assign(sae=sae, top_tokens=[top_tokens.get(key, "") for key in keys])
    with file_aside(path) as aside:
        shown[COLUMNS].to_csv(aside, index=False)


def _read(file: Path) -> pd.DataFrame:
    if file.suffix.lower() == ".json":
        rows = read_json(file)
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            raise DamagedFileError(f"{file} must hold a JSON list of objects with site, latent and decision.")
        return pd.DataFrame(rows)
    try:
        return pd.read_csv(file)
    except (ValueError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{file} cannot be read as CSV: {error}") from error
