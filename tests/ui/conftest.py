"""Pages without a server: what app.py sets up for those that it serves."""

from __future__ import annotations

import pytest
from streamlit.runtime.pages_manager import PagesManager

from sam3_lora.ui import resources
from sam3_lora.ui.access import AccessGuard


@pytest.fixture(scope="session", autouse=True)
def _served():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AccessGuard, "in_use", True)
        patch.setattr(PagesManager, "uses_pages_directory", False)
        # Streamlit's AppTest opens another page without navigation.py, which waits for what is imported meanwhile.
        patch.setattr(resources, "import_model_libraries", lambda: None)
        yield
