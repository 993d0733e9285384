"""Reading recipe files: YAML, overrides on the command line, and errors that name the nearest key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from ssae_debias.recipe.evaluate.schema import EvaluateRecipe
from ssae_debias.recipe.schema import Recipe
from ssae_debias.recipe.scr.schema import ScrRecipe

AnyRecipe: TypeAlias = Recipe | ScrRecipe | EvaluateRecipe
SCHEMAS: dict[str, type[Recipe] | type[ScrRecipe] | type[EvaluateRecipe]] = {
    "table": Recipe,
    "scr": ScrRecipe,
    "evaluate": EvaluateRecipe,
}
"""What a recipe file may hold, by its `kind`; without one it is a table's."""


class RecipeError(ValueError):
    """A recipe that cannot be run, with each fault on a line of its own."""


def read_recipe(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), *, quick: bool = False
) -> AnyRecipe:
    """Read and check a recipe.

    Parameters
    ----------
    path : path-like
        A YAML file.
    overrides : sequence of str
        `"key=value"`, with dots for sections and values in YAML: `"ssae.tilt=0"`, `"seeds=[0, 1]"`.
    quick : bool, default=False
        Apply the recipe's own `quick` section (before the overrides): a smaller run of the same kind.

    Returns
    -------
    Recipe, ScrRecipe or EvaluateRecipe
        By the file's `kind`: `table` (the default), `scr` or `evaluate`.

    Raises
    ------
    FileNotFoundError
        No such file.
    RecipeError
        Not YAML, an unknown kind, an unknown key (the nearest known one is named), or a value of the wrong kind.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "mine.yaml"
    >>> _ = file.write_text("title: Mine\\nssae: {tilt: 0.5}\\n")
    >>> read_recipe(file, ["ssae.tilt=2", "seeds=[7]"]).ssae.tilt
    2.0
    """
    file = Path(path)
    if not file.is_file():
        near = sorted(str(other) for other in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
        raise FileNotFoundError(f"No recipe at {file}." + (f" There are {', '.join(near)}." if near else ""))
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{file} must hold keys and values; it holds {type(content).__name__}.")
    if quick:
        if not isinstance(content.get("quick"), dict):
            raise RecipeError(f"{file} has no quick section.")
        for key, value in content["quick"].items():
            _set(content, key, value)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise RecipeError(f"--set takes key=value; got {override!r}.")
        try:
            _set(content, key.strip(), yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {override}: the value is not YAML ({error}).") from error
    kind = str(content.get("kind", "table"))
    if kind not in SCHEMAS:
        near = difflib.get_close_matches(kind, SCHEMAS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(SCHEMAS)}"
        raise RecipeError(f"{file}: unknown kind {kind!r}; {hint}")
    schema = SCHEMAS[kind]
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        lines = [f"  {line}" for line in _explained(error, schema)]
        raise RecipeError("\n".join([f"{file}:", *lines])) from error


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise RecipeError(f"{key!r} cannot be set: {section!r} is no section.")
    content[last] = value


def _explained(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    lines = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = _keys_beside(fault["loc"], schema)
            near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            lines.append(f"unknown key {place!r}{hint}")
        else:
            given = "" if isinstance(fault["input"], Mapping) else f" (given: {fault['input']!r})"
            lines.append(f"{place or 'recipe'}: {fault['msg'].removeprefix('Value error, ')}{given}")
    return lines


def _keys_beside(place: tuple[int | str, ...], schema: type[BaseModel]) -> list[str]:
    section: Any = schema
    for part in place[:-1]:
        if isinstance(section, type) and issubclass(section, BaseModel):
            field = section.model_fields.get(str(part))
            section = field.annotation if field is not None else None
        elif get_origin(section) is dict:  # sections by a name of the user's own
            section = get_args(section)[1]
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []
