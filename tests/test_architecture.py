"""What the design promises of the package as a whole: one direction, light starts, few and explained dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import convnext

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "convnext"
FILES = sorted(PACKAGE.rglob("*.py"))

# Lowest first; modules on one line may import each other as long as there is no circle.
LEVELS = (
    ("errors",),
    ("files", "system"),
    ("catalog",),
    ("recipes",),
    ("data",),
    ("formulas",),
    ("models", "kernels"),
    ("weights",),
    ("training",),
    ("reports", "dense", "image_level"),
    ("classification", "regression", "detection", "segmentation"),
    ("tasks",),
    ("pretrained",),
    ("robustness", "paper", "studies", "export"),
    ("api",),
    ("serve",),
    ("commands",),
    ("__main__", "__init__"),
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}

AT_IMPORT = {"torch", "numpy", "PIL", "safetensors", "rich"}  # all else from outside is imported where it is needed
ONLY_IN = {"triton": "kernels", "torch.distributed": "training.runtime", "timm": "models.baselines"}
LIGHT = (
    "errors",
    "files",
    "system.machine",
    "system.processes",
    "system.progress",
    "system.tables",
    "catalog.variants",
    "catalog.releases",
    "recipes",
    "recipes.ade20k",
    "recipes.coco",
    "recipes.dense",
    "recipes.everyday",
    "recipes.imagenet",
    "recipes.length",
    "recipes.pretrain",
    "recipes.progressive",
    "recipes.recipe",
    "recipes.roadmap",
    "paper.settings_tables",
    "tasks",
    "commands.main",
    "commands.paper",
    "commands.train",
    "commands.use",
    "data.request",
)
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 400, 50


def name_of(path: Path) -> str:
    """convnext/data/__init__.py -> "data"; convnext/api.py -> "api"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in FILES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, *, everywhere: bool = True) -> Iterator[str]:
    """Absolute names that a file imports; "convnext." stands before our own. Not `everywhere`: outside functions."""
    package = ("convnext", *path.relative_to(PACKAGE).parts[:-1])
    for node in _nodes(tree_of(path), into_functions=everywhere):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join((*package[: len(package) - node.level + 1], *filter(None, [node.module])))
            base = base if node.level else str(node.module)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _nodes(node: ast.AST, *, into_functions: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not into_functions:
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _nodes(child, into_functions=into_functions)


def own(path: Path) -> set[str]:
    """The modules of ours that a file imports, by the longest name that is a file."""
    found = set()
    for name in imports(path):
        if name.startswith("convnext."):
            parts = name.split(".")[1:]
            candidates = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
            found.add(next(candidate for candidate in candidates if candidate in NAMES))
    return found - {name_of(path)}


PUBLIC = set(convnext.__all__)


def defined(module: str) -> set[str]:
    """Names that a module has at its top level."""
    found = set()
    for node in tree_of(NAMES[module]).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        found |= {x.id for x in ast.walk(node) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
    return found


def part(module: str) -> str:
    return module.split(".")[0]


def test_every_module_has_its_level() -> None:
    assert {part(module) for module in NAMES} - LEVEL.keys() == set()


@pytest.mark.parametrize("module", NAMES)
def test_imports_go_one_way(module: str) -> None:
    upwards = {other for other in own(NAMES[module]) if LEVEL[part(other)] > LEVEL[part(module)]}
    assert upwards == set()


SLICES = ("classification", "regression", "detection", "segmentation")
ASK_FOR_SLICES = ("tasks", "pretrained", "robustness", "paper", "export", "api", "commands")  # and slices themselves


@pytest.mark.parametrize("module", NAMES)
def test_a_slice_is_imported_by_no_other_and_by_few(module: str) -> None:
    used = {part(other) for other in own(NAMES[module])} & set(SLICES)
    allowed = {part(module)} if part(module) in SLICES else set(SLICES) if part(module) in ASK_FOR_SLICES else set()
    assert used - allowed == set()


TASK_NAMES = {"classify", "regress", "detect", "segment"}
MODELS_OF_TASKS = {"Detector", "Segmenter", "DenseModel", "Regressor", "TaskModel"}
ROOMS_OF_TASKS = (*SLICES, "tasks", "recipes")


@pytest.mark.parametrize("module", [module for module in NAMES if part(module) not in ROOMS_OF_TASKS])
def test_nobody_else_asks_which_task_it_is(module: str) -> None:
    """What differs by task is a member of its slice, looked up in tasks/."""
    asked = []
    for node in ast.walk(tree_of(NAMES[module])):
        if isinstance(node, ast.Compare):
            constants = [x.value for x in ast.walk(node) if isinstance(x, ast.Constant) and isinstance(x.value, str)]
            asked += [ast.unparse(node)] if TASK_NAMES & set(constants) else []
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            names = {x.id for x in ast.walk(node.args[1]) if isinstance(x, ast.Name)}
            asked += [ast.unparse(node)] if MODELS_OF_TASKS & names else []
    assert asked == []


def test_few_files_lie_loose_and_no_room_is_crowded() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 7
    folders = {path.parent for path in FILES}
    assert {
        folder.name: len(list(folder.glob("*.py"))) for folder in folders if len(list(folder.glob("*.py"))) > 20
    } == {}


@pytest.mark.parametrize(
    "script", sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py")]), ids=lambda p: p.name
)
def test_what_a_script_imports_of_the_package_is_there(script: Path) -> None:
    """One had imported a function that was long gone; nothing runs them all."""
    missing: list[str] = []
    modules: dict[str, str] = {}  # name in the script -> module
    tree = ast.parse(script.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "convnext":
            module = (node.module or "").partition(".")[2]
            for alias in node.names:
                inside = f"{module}.{alias.name}".strip(".")
                named = alias.name in PUBLIC if not module else module in NAMES and alias.name in defined(module)
                missing += [] if inside in NAMES or named else [f"{module}: {alias.name}"]
                modules |= {alias.asname or alias.name: inside} if inside in NAMES else {}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            continue
        used = modules.get(node.value.id)
        if used is not None and node.attr not in defined(used) and f"{used}.{node.attr}" not in NAMES:
            missing.append(f"{used}.{node.attr}")
    assert missing == []


def test_imports_make_no_circle() -> None:
    graph = {module: own(path) for module, path in NAMES.items() if module != "__init__"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_training_knows_neither_networks_nor_tasks() -> None:
    used = {part(other) for module, path in NAMES.items() if part(module) == "training" for other in own(path)}
    assert used & {"models", "formulas", "classification", "detection", "segmentation", "tasks"} == set()


def test_only_the_entry_point_imports_the_command_line() -> None:
    assert {module for module, path in NAMES.items() if "commands.main" in own(path)} == {"__main__"}


@pytest.mark.parametrize("module", NAMES)
def test_heavy_and_optional_libraries_are_imported_where_they_are_needed(module: str) -> None:
    outside = {name.split(".")[0] for name in imports(NAMES[module], everywhere=False)}
    assert outside - sys.stdlib_module_names - {"convnext"} <= AT_IMPORT


@pytest.mark.parametrize("module", NAMES)
def test_each_of_these_libraries_has_one_place(module: str) -> None:
    found = {library for name in imports(NAMES[module]) for library in ONLY_IN if f"{name}.".startswith(f"{library}.")}
    assert {library for library in found if not f"{module}.".startswith(f"{ONLY_IN[library]}.")} == set()


@pytest.mark.parametrize("module", NAMES)
def test_transformers_is_for_tests_alone(module: str) -> None:
    assert not [name for name in imports(NAMES[module]) if name.startswith("transformers")]


@pytest.mark.parametrize("module", [module for module in LIGHT if module in NAMES])
def test_what_the_command_line_starts_with_needs_the_standard_library_only(module: str) -> None:
    outside = {name.split(".")[0] for name in imports(NAMES[module], everywhere=False)}
    assert outside <= sys.stdlib_module_names | {"convnext"}


@pytest.mark.parametrize(
    "code",
    [
        "import convnext; dir(convnext); convnext.UserError",
        "import convnext.commands.main",
        "from convnext.commands.main import main; main(['--help'])",
        "from convnext.commands.main import main; main(['train', '--help'])",
        "from convnext.commands.main import main; main(['models'])",
    ],
)
def test_help_and_the_list_of_models_come_without_torch(code: str) -> None:
    heavy = "sorted(sys.modules.keys() & {'torch', 'numpy'})"
    script = f"import atexit, sys\natexit.register(lambda: print('heavy:', {heavy}))\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def requirements() -> dict[str, list[str]]:
    """Package -> bounds, of the project and each of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = project["dependencies"] + [row for extra in project["optional-dependencies"].values() for row in extra]
    found: dict[str, list[str]] = {}
    for row in rows:
        parts = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(.*)", row)
        assert parts is not None, row
        found.setdefault(parts[1], []).append(parts[2])
    return found


DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


@pytest.mark.parametrize("package", requirements())
def test_every_dependency_is_explained(package: str) -> None:
    rows = [line for line in (ROOT / "docs" / "dependencies.md").read_text().splitlines() if line.startswith("|")]
    assert [row for row in rows if re.search(rf"(?<![\w-]){re.escape(package)}(?![\w-])", row)]


@pytest.mark.parametrize("requirement", DEPENDENCIES)
def test_the_page_of_dependencies_has_the_same_lower_bound(requirement: str) -> None:
    name, bound = requirement.split(">=")
    assert f"| {name} ≥ {bound} |" in (ROOT / "docs" / "dependencies.md").read_text()


def test_only_lower_bounds_are_pinned() -> None:
    bounds = [bound for rows in requirements().values() for bound in rows]
    assert [bound for bound in bounds if not re.fullmatch(r">=[\d.]+", bound)] == []


def test_what_is_imported_from_outside_is_declared() -> None:
    called = {"PIL": "pillow", "sklearn": "scikit-learn", "faster_coco_eval": "faster-coco-eval"}
    called["yaml"] = "pyyaml"
    used = {name.split(".")[0] for path in FILES for name in imports(path)} - sys.stdlib_module_names - {"convnext"}
    assert {called.get(name, name) for name in used} <= requirements().keys()


@pytest.mark.parametrize("module", NAMES)
def test_no_file_and_no_function_hides_two_ideas(module: str) -> None:
    path = NAMES[module]
    assert len(path.read_text().splitlines()) <= LINES_OF_A_FILE
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_OF_A_FUNCTION} == {}


@pytest.mark.parametrize("module", NAMES)
def test_every_file_says_what_it_is_for(module: str) -> None:
    tree = tree_of(NAMES[module])
    assert ast.get_docstring(tree) or len(tree.body) <= 3  # __main__ is its own explanation


@pytest.mark.parametrize("module", NAMES)
def test_every_function_is_typed(module: str) -> None:
    untyped = []
    for node in ast.walk(tree_of(NAMES[module])):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            missing = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            untyped += [node.name] if missing or node.returns is None else []
    assert untyped == []
