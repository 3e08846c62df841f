"""The walls of the house: which room may import which, who prints, and what loads when."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

package = Path(__file__).parent.parent / "src" / "modelwright"

# A room imports only rooms above it.
rooms = [
    "runtime",
    "config",
    "tokenizer",
    "data",
    "model",
    "accounting",
    "distributed",
    "checkpoint",
    "interop",
    "generation",
    "evaluation",
    "training",
    "planning",
    "compression",
    "experiments",
    "serving",
    "cli",
]
files = sorted(package.rglob("*.py"))
room_files = [path for path in files if path.parent != package]


def module_name(path: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


module_names = {module_name(path) for path in files}


def room_of(path: Path) -> str:
    return path.relative_to(package).parts[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_in(path: Path, *, only_at_load: bool = False) -> list[str]:
    """The modelwright modules a file imports, by full name.

    Args:
        only_at_load: leave out imports inside functions and under TYPE_CHECKING.
    """
    tree = tree_of(path)
    skipped: set[ast.AST] = set()
    if only_at_load:
        for node in ast.walk(tree):
            is_guard = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            if is_guard or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                skipped.update(ast.walk(node))
    names: list[str] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.append(submodule if submodule in module_names else node.module or "")
    return [name for name in names if name.split(".")[0] == "modelwright"]


def test_every_folder_is_a_room_of_the_list():
    found = {
        path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert found <= set(rooms)


@pytest.mark.parametrize("path", room_files, ids=module_name)
def test_a_room_imports_only_rooms_above_it(path: Path):
    allowed = rooms[: rooms.index(room_of(path)) + 1]
    for name in imports_in(path):
        parts = name.split(".")
        if len(parts) > 1 and parts[1] in rooms:
            assert parts[1] in allowed, f"{module_name(path)} imports {name}, a room below it"


def test_no_import_cycles():
    modules = {module_name(path): path for path in files}
    graph = {
        name: {other for other in imports_in(path, only_at_load=True) if other in modules}
        for name, path in modules.items()
    }
    finished: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        assert name not in trail, "import cycle: " + " → ".join([*trail, name])
        if name in finished:
            return
        for other in graph[name] - {name}:
            if other != "modelwright":  # the package itself loads lazily
                visit(other, [*trail, name])
        finished.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize(
    "path", [path for path in room_files if room_of(path) != "cli"], ids=module_name
)
def test_only_the_command_line_prints_or_ends_the_process(path: Path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "exit", "quit", "sys.exit", "os._exit", "input"}
            assert not called.startswith(("sys.stdout", "sys.stderr", "os.abort", "os.kill"))
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert "SystemExit" not in ast.unparse(node.exc)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = ast.unparse(node)
            assert "argparse" not in names
            assert "typer" not in names


@pytest.mark.parametrize(
    "path", [path for path in room_files if room_of(path) != "runtime"], ids=module_name
)
def test_only_runtime_reads_environment_variables(path: Path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute | ast.Name):
            assert ast.unparse(node) not in {"os.environ", "os.getenv", "environ", "getenv"}


@pytest.mark.parametrize("path", room_files, ids=module_name)
def test_every_module_says_what_it_is_for(path: Path):
    assert ast.get_docstring(tree_of(path))


def modules_loaded_by(code: str) -> set[str]:
    """The names in sys.modules after running some code in a fresh interpreter."""
    shown = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


heavy = {"torch", "matplotlib", "pydantic", "safetensors", "numpy", "tomlkit"}


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_loaded_by("import modelwright") & heavy


def test_help_loads_nothing_heavy():
    code = (
        "import sys, contextlib\nsys.argv = ['modelwright', '--help']\n"
        "from modelwright.cli.app import main\n"
        "with contextlib.suppress(SystemExit):\n    main()"
    )
    assert not modules_loaded_by(code) & heavy


def test_reading_a_config_loads_no_torch():
    code = "import modelwright; modelwright.load_settings(modelwright.RunConfig)"
    assert "torch" not in modules_loaded_by(code)
