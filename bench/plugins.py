"""A third party's file, the modules beside it that it imports, and one hash over all of them.

Invariant: what an `import` of a plug-in reaches beside it is in its `sources`, so that the same hash means the same
code. The statements are read, not run: also those inside functions, and of the modules that are reached by others.

Each folder with plug-ins is a package of its own, `plugin_` and a hash of its path, so that the `helper.py` of two
folders are two modules. A name that stands beside the plug-in goes before an installed one, as for a script; those of
the suite are always the suite's. Nothing is written beside the files: they are compiled anew in each process.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec
from pathlib import Path
from types import ModuleType

Sources = dict[str, str]
"""The sha256 of each file, by its path from the plug-in's folder."""

SUITE = frozenset({"bench", "methods", "problems", "reports"})
PACKAGE = "plugin_"


def sources(path: Path) -> Sources:
    """Of a plug-in and of what it imports beside it. Raises FileNotFoundError where there is no such plug-in."""
    if not path.is_file():
        raise FileNotFoundError(f"plug-in {path} does not exist")
    folder, waiting, found = path.parent, [(path, "")], Sources()
    while waiting:
        file, package = waiting.pop()
        name = file.relative_to(folder).as_posix()
        if name not in found:
            content = file.read_bytes()
            found[name] = hashlib.sha256(content).hexdigest()
            for dotted in _imported(content, package) if file.suffix == ".py" else ():
                waiting += _files(folder, dotted.split("."))
    return dict(sorted(found.items()))


def sources_sha256(files: Mapping[str, str]) -> str:
    """One hash of all files, their names included."""
    listed = "".join(f"{sha256} {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256(listed.encode()).hexdigest()


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of those that are not in both with the same content."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def load(path: Path) -> ModuleType:
    """The plug-in's module, imported once in this process. Raises whatever its import raises."""
    package = _package(path.parent)
    name = f"{package}.{path.stem.replace('.', '_')}"
    if name not in sys.modules:
        loader = _Source(name, str(path))
        module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(path)))
        module.__file__ = str(path)
        sys.modules[name] = module
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # where it extends sys.path itself
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            sys.dont_write_bytecode = writes
    return sys.modules[name]


def _imported(source: bytes, package: str) -> Iterator[str]:
    """Dotted names from the plug-in's folder, of all import statements; some are of things and not of modules."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # its import says so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package and node.level else []
            parts = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*parts, *filter(None, [node.module])])
            yield from ([base] if base else [])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import(node.func) and node.args:
            first = node.args[0]
            yield from [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []


def _is_import(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("__import__", "import_module")


def _files(folder: Path, parts: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """The modules that importing `parts` runs, each with the package that its relative imports start from."""
    if parts[0] in SUITE:
        return
    for depth, part in enumerate(parts):
        inside = folder.joinpath(*parts[:depth])
        if part == "*":
            yield from ((file, ".".join(parts[:depth])) for file in inside.glob("*.py"))
            return
        file = _module_file(inside, part)
        if file is not None:
            is_package = file.stem == "__init__"
            yield file, ".".join(parts[: depth + is_package])
        if not (inside / part).is_dir():
            return


def _module_file(folder: Path, name: str) -> Path | None:
    """As Python's own finder looks for it."""
    there = [
        folder / name / "__init__.py",
        *(folder / f"{name}{end}" for end in (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES)),
    ]
    return next((file for file in there if file.is_file()), None)


@cache  # an import inside a function is asked at every call of it
def _is_beside(folder: Path, name: str) -> bool:
    """Whether an `import name` in this folder's modules is of a module beside them."""
    if name in SUITE:
        return False
    if _module_file(folder, name) is not None:
        return True
    if not (folder / name).is_dir():
        return False
    installed = importlib.util.find_spec(name)  # goes before a folder without __init__.py
    return installed is None or installed.origin is None


def _package(folder: Path) -> str:
    """Its name, once it is there for imports."""
    name = PACKAGE + hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    if name not in sys.modules:
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return name


class _Finder(MetaPathFinder):
    """Of the modules below the plug-ins' packages."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PACKAGE) or path is None:
            return None
        kinds = (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Source, SOURCE_SUFFIXES)
        found = (FileFinder(folder, *kinds).find_spec(fullname, target) for folder in path)
        return next((spec for spec in found if spec is not None), None)


class _Source(Loader):
    """Compiles a file and keeps nothing; its modules import what lies beside the plug-in."""

    def __init__(self, fullname: str, path: str) -> None:
        self._package, self._path = fullname.partition(".")[0], Path(path)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        folder = Path(sys.modules[self._package].__path__[0])
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importer(folder, self._package)}
        return module

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._path.read_bytes(), self._path, "exec"), vars(module))


def _importer(folder: Path, package: str) -> Callable[..., ModuleType]:
    """What an import statement of a folder's modules calls in place of Python's own."""

    def import_(
        name: str,
        globals_: Mapping[str, object] | None = None,
        locals_: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or not _is_beside(folder, top):
            return builtins.__import__(name, globals_, locals_, fromlist or (), level)
        found = builtins.__import__(f"{package}.{name}", globals_, locals_, fromlist or (), 0)
        return found if fromlist else sys.modules[f"{package}.{top}"]

    return import_
