"""The app's entry point, `streamlit run app.py`: serves the pages to those who may talk to it.

Streamlit finds `app` by reading this file and hands every request to it, the very first included.
"""

import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from streamlit.runtime.pages_manager import PagesManager

from sam3_lora.errors import Sam3LoraError
from sam3_lora.ui import access
from sam3_lora.ui.shutdown import jobs_end_first


@asynccontextmanager
async def _serving(_app: st.App) -> AsyncIterator[None]:
    """What happens between the start and the end of the server; its port is known and open here."""
    # Otherwise Streamlit takes pages/ for a multipage app of its own until navigation.py has run once.
    PagesManager.uses_pages_directory = False
    for line in access.start_messages(rules):
        print(f"  {line}\n", flush=True)
    # With a token not: every account of the machine can read the browser's command line.
    if rules.token is None and not st.get_option("server.headless"):
        webbrowser.open(access.link(rules))
    async with jobs_end_first():
        yield


try:
    rules = access.AccessRules.from_settings()
except Sam3LoraError as error:
    sys.exit(str(error))
app = st.App(
    Path(__file__).with_name("navigation.py"),
    lifespan=_serving,
    middleware=[Middleware(access.AccessGuard, rules)],
)
