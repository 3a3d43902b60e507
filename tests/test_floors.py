"""The layers: imports run only downward, and every module has its tests."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("schemas", "transforms", "synth", "auto_label", "pipeline", "jobs")
BANNED_NAMES = {
    "scenario", "session", "chunk", "item", "data", "info", "manager", "helper", "utils",
    "core", "common", "can",
}  # fmt: skip
ALLOWED_IN_SCHEMAS = {"numpy", "pyarrow"}


def modules() -> Iterator[Path]:
    """Yields the modules of every floor."""
    for floor in FLOORS:
        yield from sorted((ROOT / floor).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yields the dotted names that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path: Path) -> None:
    """Jobs → pipeline → auto_label → synth → transforms → schemas, never back."""
    floor = path.relative_to(ROOT).parts[0]
    above = set(FLOORS[FLOORS.index(floor) + 1 :]) | {"tests", "benchmarks"}
    wrong = sorted(name for name in imports(path) if name.split(".")[0] in above)
    assert not wrong, f"{path.relative_to(ROOT)} imports from above: {wrong}"


def test_schemas_imports_only_numpy_and_pyarrow() -> None:
    for path in sorted((ROOT / "schemas").rglob("*.py")):
        tops = {name.split(".")[0] for name in imports(path)}
        outside = tops - set(sys.stdlib_module_names) - ALLOWED_IN_SCHEMAS - {"schemas"}
        assert not outside, f"{path.name} imports {sorted(outside)}"


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [str(path) for path in modules() if path.stem in BANNED_NAMES]


def test_every_folder_of_modules_is_a_package_that_the_wheel_names() -> None:
    """Others would work only from the source tree."""
    declared = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*")
        if path.suffix in {".py", ".toml", ".sql"} and "__pycache__" not in path.parts
    }
    assert found == declared


def modules_with_code() -> Iterator[Path]:
    """Yields the modules with a function or class; the others have nothing to test."""
    for path in modules():
        nodes = ast.parse(path.read_text()).body
        if any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in nodes):
            yield path.relative_to(ROOT)


def mirrored(module: Path) -> Path:
    """Returns the test file of a module; that of a package is named after its folder.

    >>> mirrored(Path("a/b/c.py")), mirrored(Path("a/b/__init__.py"))
    (PosixPath('tests/a/b/test_c.py'), PosixPath('tests/a/b/test_b.py'))
    """
    name = module.parent.name if module.stem == "__init__" else module.stem
    return Path("tests", *module.parent.parts, f"test_{name}.py")


def test_every_module_has_its_tests_at_the_mirrored_place() -> None:
    missing = {str(path) for path in modules_with_code() if not (ROOT / mirrored(path)).is_file()}
    assert not missing


def test_tests_mirror_the_tree() -> None:
    """Every folder of tests has the path of a folder of code."""
    assert not list((ROOT / "tests").rglob("__init__.py"))
    folders = {
        path.parent.relative_to(ROOT / "tests")
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.parent != ROOT / "tests"
    }
    for folder in folders:
        assert (ROOT / folder).is_dir() or folder.parts[0] in {"benchmarks", "docs", "fuzz"}, folder


PIPELINE = (
    "label_studio",
    "topologies",
    "snapshots",
    "lake",
    "queries",
    "graph",
    "config",
    "stages",
)
"""The packages of pipeline/: each imports only itself and those before it."""


def test_imports_among_the_packages_of_pipeline_run_one_way() -> None:
    found = {path.relative_to(ROOT / "pipeline").parts[0] for path in modules_of_pipeline()}
    assert {name.removesuffix(".py") for name in found} == set(PIPELINE)
    wrong = []
    for path in modules_of_pipeline():
        package = path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")
        allowed = PIPELINE[: PIPELINE.index(package) + 1]
        for name in imports(path):
            floor, _, rest = name.partition(".")
            if floor == "pipeline" and rest.partition(".")[0] not in allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def modules_of_pipeline() -> list[Path]:
    """Lists the modules of pipeline/ without its `__init__.py`."""
    root = ROOT / "pipeline"
    return sorted(path for path in root.rglob("*.py") if path != root / "__init__.py")
