"""What the app keeps is bounded, however long it runs and however many datasets are opened."""

from __future__ import annotations

import ast
from pathlib import Path

from sam3_lora.ui import resources

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_cache_with_arguments_has_a_bound() -> None:
    found, unbounded = 0, []
    for path in [*(ROOT / "sam3_lora" / "ui").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                if not ast.unparse(decorator).startswith("st.cache_"):
                    continue
                found += 1
                options = {one.arg for one in decorator.keywords} if isinstance(decorator, ast.Call) else set()
                if (node.args.args or node.args.kwonlyargs) and "max_entries" not in options:
                    unbounded.append(f"{path.name}: {node.name}")
    assert found > 15 and unbounded == []


def test_few_folders_are_remembered(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / str(number)).mkdir()
        resources.fingerprint(str(tmp_path / str(number)))
    remembered = resources._fingerprints()
    assert len(remembered) <= 4 and str(tmp_path / "11") in remembered
