"""The walls of docs/architecture.md: which package imports which, and what does no I/O."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "deepconv"
LEAVES = {"weights", "plan", "benchmark", "visualize", "localization", "transfer"}
PURE = [
    *(PACKAGE / "models").glob("*.py"),
    *(PACKAGE / "evaluation").glob("*.py"),
    *(PACKAGE / "localization" / f"{name}.py" for name in ("windows", "merging", "report")),
    PACKAGE / "boxes.py",
    PACKAGE / "data" / "targets.py",
    *(
        PACKAGE / "transfer" / f"{name}.py"
        for name in ("aggregate", "linear", "report", "splits", "text")
    ),
    *(
        PACKAGE / "training" / f"{name}.py"
        for name in ("step", "augment", "losses", "optimizer", "schedule", "plateau")
    ),
]
DOES_IO = {"os", "sys", "io", "logging", "pathlib", "shutil", "subprocess", "tempfile", "absl"}


def modules():
    """Return `{path below the package: its tree}`; the configs are data."""
    paths = [path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts]
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in paths}


def imported(tree):
    """Yield every module, or name in a module, that is imported anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def importers(package):
    """Return what imports a package of ours from outside of it."""
    return {
        name
        for name, tree in modules().items()
        if not name.startswith(f"{package}/")
        and any(f"{used}.".startswith(f"deepconv.{package}.") for used in imported(tree))
    }


def test_only_the_entry_points_import_commands():
    assert importers("commands") == {"__main__.py", "main.py"}


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_only_commands_import_a_leaf(leaf):
    others = {name for name in importers(leaf) if not name.startswith("commands/")}
    # A file of another framework is imported where it is opened; see open_file.
    assert others == ({"run/parameters.py"} if leaf == "weights" else set())


def test_the_one_import_of_a_leaf_is_made_only_when_it_is_needed():
    at_the_top = ast.Module(modules()["run/parameters.py"].body, [])
    at_the_top.body = [
        node for node in at_the_top.body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not any(name.startswith("deepconv.weights") for name in imported(at_the_top))


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_numeric_does_no_io(path):
    tree = ast.parse(path.read_text())
    assert not DOES_IO & {name.split(".")[0] for name in imported(tree)}
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {func.id for func in calls if isinstance(func, ast.Name)}
    assert not names & {"open", "print", "input"}


def test_a_network_does_not_hide_its_module():
    from deepconv.models import alexnet, cifar, vgg

    assert [module.__name__ for module in (alexnet, cifar, vgg)] == [
        f"deepconv.models.{name}" for name in ("alexnet", "cifar", "vgg")
    ]
