"""The layout is the architecture: a folder imports only what stands before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ssae_debias"
ORDER = (
    "files", "ranks", "decisions", "data", "retrieval", "activations", "sae", "latents", "edit", "metrics", "rivals",
    "report", "review", "estimators", "audit", "recipe", "cli",
)  # fmt: skip
# retrieval is earlier in the flow, but ranks by a model and an SAE
EXCEPTIONS = {("retrieval", "activations"), ("retrieval", "sae")}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ssae_debias."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "ssae_debias":
            found.update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("folder", [name for name in ORDER if name != "files"])
def test_data_flows_one_way(folder: str) -> None:
    files = (
        [PACKAGE / f"{folder}.py"]
        if (PACKAGE / f"{folder}.py").is_file()
        else (PACKAGE / folder).rglob("*.py")
    )
    allowed = set(ORDER[: ORDER.index(folder) + 1]) | {"__version__"}
    for file in files:
        later = {name for name in imports(file) - allowed if (folder, name) not in EXCEPTIONS}
        assert not later, (
            f"{file.relative_to(PACKAGE)} imports {', '.join(sorted(later))}, which stands after {folder}"
        )


@pytest.mark.parametrize(
    "module",
    [
        "ssae_debias",
        "ssae_debias.data",
        "ssae_debias.decisions",
        "ssae_debias.metrics",
        "ssae_debias.report",
        "ssae_debias.review",
        "ssae_debias.cli.review",
    ],
)
def test_light_modules_need_no_torch(module: str) -> None:
    code = (
        f"import sys, {module}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'faiss')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_file_of_the_package_has_a_place() -> None:
    known = {*ORDER, "__init__", "__main__", "py"}
    entries = {
        p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")
    }
    assert entries <= known
