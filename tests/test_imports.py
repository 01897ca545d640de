"""Who may import whom: read from the source, so that no layer grows into another unnoticed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOUNDATION = {
    "errors",
    "text",
    "markdown",
    "files",
    "structures",
    "boxes",
    "masks",
    "tiles",
    "config",
    "resolved",
    "draw",
    "words",
}
MIDDLE = {"data", "model", "loss", "predict", "runs"}

# For each part of the core, the parts it may import (itself aside). A part is a file or a folder of sam3_lora/.
ALLOWED = {
    "errors": set(),
    "text": set(),
    "markdown": {"text"},
    "files": set(),
    "structures": {"errors"},
    "boxes": {"errors"},
    "masks": {"errors", "boxes"},
    "tiles": {"config"},
    "config": {"errors", "files", "text"},
    "resolved": {"config"},
    "words": {"config"},
    "recipes": {"config", "errors"},
    "draw": {"boxes", "masks"},
    "data": FOUNDATION,
    "model": FOUNDATION,
    "loss": FOUNDATION,
    "demo": FOUNDATION | {"data"},
    "predict": FOUNDATION | {"data", "model", "loss"},
    "label": FOUNDATION | {"data", "model", "predict"},
    "concepts": FOUNDATION | {"data", "model", "loss", "predict"},
    "runs": FOUNDATION | {"data", "model", "predict"},
    "evaluate": FOUNDATION | MIDDLE,
    "monitor": FOUNDATION | MIDDLE,
    "train": FOUNDATION | MIDDLE | {"evaluate"},  # validation while training is evaluation, too
}
PAGE_FOLDERS = {"start", "dataset", "configure", "train", "inference", "evaluate", "label"}
CORE_FILES = [path for path in sorted((ROOT / "sam3_lora").rglob("*.py")) if "ui" not in path.parts]
PAGE_FILES = [ROOT / "app.py", ROOT / "navigation.py", *sorted((ROOT / "pages").glob("*.py"))]


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "sam3_lora").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, inside functions and under TYPE_CHECKING too, as dotted names."""
    names: set[str] = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def parts_imported(path: Path) -> set[str]:
    """The parts of sam3_lora that a file imports."""
    return {
        name.split(".")[1] for name in imported(path) if name.startswith("sam3_lora.") and _is_part(name.split(".")[1])
    }


def _is_part(name: str) -> bool:
    folder = ROOT / "sam3_lora" / name
    return folder.is_dir() or folder.with_suffix(".py").is_file()


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_reader_sees_every_form_of_import() -> None:
    folder = ROOT / "sam3_lora" / "ui"
    assert "streamlit" in imported(folder / "components" / "layout.py")
    assert "config" in parts_imported(folder / "state.py")
    assert "predict" in parts_imported(folder / "resources.py"), "imports inside functions count"


@pytest.mark.parametrize("path", CORE_FILES, ids=_name)
def test_the_core_knows_no_streamlit_and_no_page(path: Path) -> None:
    names = imported(path)
    assert not {name for name in names if name.split(".")[0] in {"streamlit", "pages", "app", "navigation"}}
    assert "ui" not in parts_imported(path)


@pytest.mark.parametrize("path", [path for path in CORE_FILES if part_of(path) in ALLOWED], ids=_name)
def test_each_layer_imports_only_those_below_it(path: Path) -> None:
    part = part_of(path)
    forbidden = parts_imported(path) - ALLOWED[part] - {part}
    assert not forbidden, f"{_name(path)} must not import sam3_lora.{', '.join(sorted(forbidden))}"


def test_every_part_of_the_core_has_its_place() -> None:
    at_the_top = {"__init__", "__main__", "cli", "ui"}  # these put the parts together
    assert {part_of(path) for path in CORE_FILES} - at_the_top <= set(ALLOWED)


@pytest.mark.parametrize("path", sorted((ROOT / "sam3_lora" / "ui").rglob("*.py")), ids=_name)
def test_pages_widgets_know_no_other_page_and_components_know_none(path: Path) -> None:
    """Folders of sam3_lora/ui/ are one page's own, but for components/; the files beside them serve all pages."""
    folder = path.relative_to(ROOT / "sam3_lora" / "ui").parts[0]
    others = PAGE_FOLDERS - {folder}
    at_the_top = path.parent.name == "ui"
    reached = {name.split(".")[2] for name in imported(path) if name.startswith("sam3_lora.ui.")}
    assert not reached & (PAGE_FOLDERS if at_the_top else others)
    if folder == "components":
        assert reached <= {"components", "state", "resources", "background_job", "access"}


@pytest.mark.parametrize("path", PAGE_FILES, ids=_name)
def test_pages_do_not_import_each_other(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] in {"pages", "app", "navigation"}}


@pytest.mark.parametrize("path", [path for path in CORE_FILES if part_of(path) not in {"cli", "__main__"}], ids=_name)
def test_the_core_neither_prints_nor_exits_nor_swallows_everything(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{_name(path)}:{node.lineno} has a bare except"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "sys.exit", "exit", "quit"}, f"{_name(path)}:{node.lineno} calls {called}"
