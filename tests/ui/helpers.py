"""Helpers of the page tests: a page without a browser, and what is written on it."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from sam3_lora.config import RunConfig

ROOT = Path(__file__).resolve().parent.parent.parent


def new_app(timeout_s: float = 120) -> AppTest:
    """The app in a tab of its own, not run yet."""
    return AppTest.from_file(str(ROOT / "navigation.py"), default_timeout=timeout_s)


def dataset_page() -> AppTest:
    """The dataset page in a tab of its own, not run yet."""
    app = new_app()
    app.switch_page("pages/dataset.py")
    return app


def train_page(**query: str) -> AppTest:
    """The train page, opened by an address with these parameters."""
    app = new_app()
    app.switch_page("pages/train.py")
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def open_sections(app: AppTest) -> AppTest:
    """Opens all sections of the configure page's form, whose widgets are drawn only then."""
    for section in RunConfig.model_fields:
        app.session_state[f"section-{section}"] = True
    return app


def texts(app: AppTest) -> str:
    """All Markdown, captions and subheaders, without the backslashes that escape them."""
    elements = (*app.markdown, *app.caption, *app.subheader)
    return "\n".join(element.value for element in elements).replace("\\", "")


def boxes(app: AppTest) -> list[str]:
    """The errors, warnings and notes."""
    return [box.value for box in (*app.error, *app.warning, *app.info)]
