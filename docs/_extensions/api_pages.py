"""The API's pages, written from the package's source: a new public name appears without anyone listing it.

A package's face is its `__all__`; the modules behind it each hold one idea, and their docstrings teach it. So there
is a page for each package, with the names that it exports, and one for each module, with the module's docstring and
its public names in the order of the source. A name stands on the page of the module that defines it, under the
shortest path that exports it: `leakage` of `metrics/leakage.py` as `ssae_debias.metrics.leakage`.

Reads the source alone: neither Sphinx nor the package's dependencies are needed, which is how the tests read it.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LEFT_OUT = ("cli", "__main__")  # the commands have a page of their own
LONGEST_VALUE = 200  # characters of a constant that a page shows


@dataclass(frozen=True)
class Name:
    """Something public: what it is, and the path that people import it by."""

    path: str
    kind: str

    @property
    def short(self) -> str:
        """The name without its path."""
        return self.path.rpartition(".")[2]


@dataclass
class Module:
    """A module or package, read from its file.

    Attributes
    ----------
    defined : dict of str to str
        Kind of each public name defined here, in the order of the file.
    docstrings : dict of str to str
        Of the names that have one; a constant's stands below it.
    values : dict of str to str
        Right-hand side of each constant, as written.
    exported : tuple of str
        `__all__`, of a package.
    imported : dict of str to (str, str)
        Where the names that are imported come from.
    """

    path: str
    is_package: bool
    summary: str
    defined: dict[str, str] = field(default_factory=dict)
    docstrings: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    exported: tuple[str, ...] = ()
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)


def read_package(root: Path) -> dict[str, Module]:
    """Every module of a package, by its dotted path, parents before what they hold."""
    modules = {}
    for file in sorted(root.rglob("*.py"), key=lambda file: (file.parent, file.name != "__init__.py", file)):
        if not (file.parent / "__init__.py").is_file():
            continue
        parts = file.relative_to(root.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        parts = parts[:-1] if is_package else parts
        if not any(part in LEFT_OUT or part.startswith("_") for part in parts[1:]):
            modules[".".join(parts)] = _read(file, ".".join(parts), is_package)
    return modules


def public_names(modules: dict[str, Module]) -> dict[str, list[Name]]:
    """The names of each module's page. Every exported name is on one page, whatever exports it."""
    shortest: dict[tuple[str, str], str] = {}
    for package in sorted(modules.values(), key=lambda module: module.path.count(".")):
        for name in package.exported:
            shortest.setdefault(_origin(modules, package.path, name), f"{package.path}.{name}")
    pages: dict[str, list[Name]] = {}
    for module in modules.values():
        pages[module.path] = [
            Name(shortest.get((module.path, name), f"{module.path}.{name}"), kind)
            for name, kind in module.defined.items()
            if not name.startswith("_")
            if (module.path, name) in shortest or kind != "data" or name in module.docstrings
        ]
    return pages


def exported_paths(modules: dict[str, Module], package: str) -> list[str]:
    """What a package exports, under the paths of `public_names`."""
    places = {
        (module, name.short): name.path for module, names in public_names(modules).items() for name in names
    }
    return [
        places[_origin(modules, package, name)]
        for name in modules[package].exported
        if not name.startswith("_")
    ]


def write_pages(root: Path, folder: Path) -> None:
    """Write the pages as reStructuredText; those that have not changed are left alone, so that builds are short."""
    modules = read_package(root)
    names = public_names(modules)
    top = root.name
    taken = {name.path for page in names.values() for name in page}
    pages = {"index": "\n".join(_index(modules, top))}
    for module in modules.values():
        if module.path != top:
            pages[module.path] = "\n".join(_page(modules, names, module, taken))
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for stem, text in pages.items():
        file = folder / f"{stem}.rst"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def short_names(names: dict[str, list[Name]]) -> dict[str, str]:
    """Full path of each name that can be told from the name alone.

    Of several things of a name, the one that a package exports; a name in small letters needs an underscore too, since
    docstrings also speak of arguments, such as `report`.
    """
    found: dict[str, dict[bool, list[str]]] = {}
    for module, page in names.items():
        for name in page:
            exported = not name.path.startswith(f"{module}.")
            found.setdefault(name.short, {True: [], False: []})[exported].append(name.path)
    chosen = {}
    for short, paths in found.items():
        candidates = paths[True] or (paths[False] if short[0].isupper() else [])
        if len(candidates) == 1 and (short[0].isupper() or "_" in short):
            chosen[short] = candidates[0]
    return chosen


def other_paths(modules: dict[str, Module]) -> dict[str, str]:
    """Further paths of what stands on its page under one: the module's own, and those of other packages."""
    found = {
        f"{module}.{name.short}": name.path
        for module, names in public_names(modules).items()
        for name in names
    }
    for package in modules.values():
        for path in exported_paths(modules, package.path):
            found[f"{package.path}.{path.rpartition('.')[2]}"] = path
    return {other: path for other, path in found.items() if other != path}


def places(modules: dict[str, Module]) -> dict[str, str]:
    """The page of each module, and of each constant that has no entry of its own, by their paths."""
    found = {path: path for path in modules if "." in path}
    for module in modules.values():
        found |= {f"{module.path}.{name}": module.path for name in module.defined}
    return found


def _read(file: Path, path: str, is_package: bool) -> Module:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    module = Module(path, is_package, _summary(ast.get_docstring(tree) or ""))
    previous: str | None = None
    for node in _statements(tree.body):
        if previous is not None and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            module.docstrings[previous] = inspect.cleandoc(str(node.value.value))
        previous = None
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                module.imported[alias.asname or alias.name] = (node.module, alias.name)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if not node.name.startswith("_"):
                module.defined[node.name] = "class" if isinstance(node, ast.ClassDef) else "function"
                module.docstrings[node.name] = ast.get_docstring(node) or ""
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                if not isinstance(part, ast.Name):
                    continue
                if part.id == "__all__" and is_package and node.value is not None:
                    module.exported = tuple(ast.literal_eval(node.value))
                elif not part.id.startswith("_"):
                    module.defined.setdefault(part.id, "data")
                    if node.value is not None and part is target:
                        module.values[part.id] = ast.unparse(node.value)
                    previous = part.id
    return module


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Of a module, those under ``if TYPE_CHECKING:`` too."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _statements(node.body)
        else:
            yield node


def _origin(modules: dict[str, Module], path: str, name: str) -> tuple[str, str]:
    """The module that defines a name, followed through packages that pass it on."""
    while name in modules[path].imported:
        path, name = modules[path].imported[name]
    return path, name


def _index(modules: dict[str, Module], top: str) -> list[str]:
    children = [path for path in modules if path.rpartition(".")[0] == top]
    packages = [path for path in children if modules[path].is_package]
    modules_last = [*packages, *(path for path in children if path not in packages)]
    exported = [name for name in modules[top].exported if not name.startswith("_")]
    return [
        "API reference",
        "=============",
        "",
        f".. automodule:: {top}",
        "   :no-members:",
        "",
        "What a package exports is listed on its page. Every module behind it has a page too: its docstring says "
        "what the idea is, with the maths and the source.",
        "",
        f".. rubric:: from {top} import …",
        "",
        *_table([_row(modules, top, name) for name in exported]),
        ".. rubric:: Packages and modules",
        "",
        *_table([(f":doc:`{path} <{path}>`", modules[path].summary) for path in modules_last]),
        *_toctree(modules, packages),
    ]


def _page(
    modules: dict[str, Module], names: dict[str, list[Name]], module: Module, taken: set[str]
) -> list[str]:
    title = module.path.partition(".")[2]
    package = module.path.rpartition(".")[0]
    lines = [] if module.is_package else [":orphan:", ""]
    lines += [title, "=" * len(title), ""]
    if not module.is_package:
        up = "index" if "." not in package else package
        lines += [f"A module of :doc:`{package} <{up}>`.", ""]
    # a module and the function that it is named after would be one name for two things
    lines += [f".. automodule:: {module.path}", "   :no-members:"]
    if module.path in taken:
        lines.append("   :no-index:")
    lines.append("")
    if module.exported:
        lines += [f".. rubric:: from {module.path} import …", ""]
        lines += _table([_row(modules, module.path, name) for name in module.exported])
    lines += _documented(module, names[module.path])
    children = [path for path in modules if path.rpartition(".")[0] == module.path]
    if children:
        rows = [(f":doc:`{path.rpartition('.')[2]} <{path}>`", modules[path].summary) for path in children]
        lines += [".. rubric:: Modules", "", *_table(rows), *_toctree(modules, children)]
    return [*lines, ""]


def _row(modules: dict[str, Module], package: str, name: str) -> tuple[str, str]:
    place, original = _origin(modules, package, name)
    [path] = [path for path in exported_paths(modules, package) if path.rpartition(".")[2] == name]
    return f":py:obj:`{name} <{path}>`", _summary(modules[place].docstrings.get(original, ""))


def _summary(docstring: str) -> str:
    return docstring.split("\n\n")[0].replace("\n", " ")


def _documented(module: Module, names: list[Name]) -> list[str]:
    lines = []
    for name in names:
        if name.kind == "data":
            value = module.values.get(name.short, "")
            lines += [f".. py:data:: {name.short}", f"   :module: {name.path.rpartition('.')[0]}"]
            lines += [f"   :value: {value}"] if 0 < len(value) <= LONGEST_VALUE else []
            docstring = module.docstrings.get(name.short, "").splitlines()
            lines += ["", *[f"   {line}" for line in docstring]]
        else:
            lines.append(f".. auto{name.kind}:: {name.path}")
            lines += ["   :members:"] if name.kind == "class" else []
        lines.append("")
    return lines


def _toctree(modules: dict[str, Module], children: list[str]) -> list[str]:
    """Packages alone stand in the navigation: with every module in it, each page would carry all their names."""
    packages = [path for path in children if modules[path].is_package]
    if not packages:
        return []
    entries = [f"   {path.rpartition('.')[2]} <{path}>" for path in packages]
    return [".. toctree::", "   :hidden:", "", *entries, ""]


def _table(rows: list[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    lines = [".. list-table::", "   :class: api-modules", ""]
    for left, right in rows:
        lines += [f"   * - {left}", f"     - {_escaped(right)}"]
    return [*lines, ""]


def _escaped(summary: str) -> str:
    return summary.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|")
