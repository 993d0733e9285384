"""Reading recipe files: YAML, overrides on the command line, and errors that name the nearest key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ssae_debias.recipe.schema import Recipe


class RecipeError(ValueError):
    """A recipe that cannot be run, with each fault on a line of its own."""


def read_recipe(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), *, quick: bool = False
) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path : path-like
        A YAML file.
    overrides : sequence of str
        `"key=value"`, with dots for sections and values in YAML: `"ssae.tilt=0"`, `"seeds=[0, 1]"`.
    quick : bool, default=False
        Apply the recipe's own `quick` section (before the overrides): a smaller run of the same kind.

    Raises
    ------
    FileNotFoundError
        No such file.
    RecipeError
        Not YAML, an unknown key (the nearest known one is named), or a value of the wrong kind.

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
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError("\n".join([f"{file}:", *(f"  {line}" for line in _explained(error))])) from error


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise RecipeError(f"{key!r} cannot be set: {section!r} is no section.")
    content[last] = value


def _explained(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = _keys_beside(fault["loc"])
            near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            lines.append(f"unknown key {place!r}{hint}")
        else:
            given = "" if isinstance(fault["input"], Mapping) else f" (given: {fault['input']!r})"
            lines.append(f"{place or 'recipe'}: {fault['msg'].removeprefix('Value error, ')}{given}")
    return lines


def _keys_beside(place: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in place[:-1]:
        field = section.model_fields.get(str(part))
        kind = field.annotation if field is not None else None
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            section = kind
    return list(section.model_fields)
