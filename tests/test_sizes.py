"""Limits of size: no file, function or folder grows until nobody finds their way in it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "sam3_lora").rglob("*.py"))
PAGES = sorted((ROOT / "pages").glob("*.py"))
MAX_FILE_LINES, MAX_PAGE_LINES, MAX_FUNCTION_LINES, MAX_MODULES = 400, 150, 60, 15


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_files_are_found() -> None:
    assert len(FILES) > 100
    assert len(PAGES) >= 5


@pytest.mark.parametrize(("files", "limit"), [(FILES, MAX_FILE_LINES), (PAGES, MAX_PAGE_LINES)], ids=["core", "pages"])
def test_no_file_is_too_long(files: list[Path], limit: int) -> None:
    assert {path.name: count for path in files if (count := len(_lines(path))) > limit} == {}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path.relative_to(ROOT).as_posix()}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in [*FILES, *PAGES]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_no_folder_holds_too_many_modules() -> None:
    counts = {path.parent: 0 for path in FILES}
    for path in FILES:
        counts[path.parent] += 1
    assert {folder.name: count for folder, count in counts.items() if count > MAX_MODULES} == {}
