"""Tables of finished analyses, kept on disk, so that a killed run goes on with the next one."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ssae_debias.files import file_aside
from ssae_debias.recipe.evaluate.schema import EvaluateRecipe

BESIDE_THE_POINT = {"title", "seeds", "analyses", "cache_dir", "quick"}
"""What of a recipe changes no table of one seed and analysis."""


class KeptTables:
    """Tables by analysis and seed.

    Parameters
    ----------
    home : Path
    recipe : EvaluateRecipe
    fingerprint : str
        Of the texts: files may change under the same name.
    """

    def __init__(self, home: Path, recipe: EvaluateRecipe, fingerprint: str) -> None:
        facts = recipe.model_dump(mode="json", exclude=BESIDE_THE_POINT) | {
            "compared_k": recipe.compared_k,
            "texts": fingerprint,
            "first_seed": recipe.seeds[0],  # TracIn asks its SAE
        }
        self.folder = (
            home / "tables" / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
        )

    def get(
        self, analysis: str, seed: int, measure: Callable[[], dict[str, pd.DataFrame]]
    ) -> dict[str, pd.DataFrame]:
        """The tables of an analysis, measured unless they are kept."""
        file = self.folder / f"{analysis}-{seed}.json"
        if not file.is_file():
            tables = measure()
            self.folder.mkdir(parents=True, exist_ok=True)
            content = {
                name: json.loads(table.to_json(orient="table", index=False, double_precision=15))
                for name, table in tables.items()
            }
            with file_aside(file) as aside:
                aside.write_text(json.dumps(content), encoding="utf-8")
        # always as read, so that a run that goes on ends like one that was not stopped
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            name: pd.read_json(io.StringIO(json.dumps(table)), orient="table")
            for name, table in content.items()
        }


def fingerprint(*texts: list[str]) -> str:
    """Of some lists of texts."""
    digest = hashlib.sha256()
    for some in texts:
        digest.update(len(some).to_bytes(8, "big"))
        for text in some:
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
