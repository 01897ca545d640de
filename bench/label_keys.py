"""Time per image on the Label page, of which a person's thinking is no part.

    python bench/label_keys.py [--images 20]

Labels the demo's images in a real browser, in the order *Most uncertain*: Enter for each proposal as fast as keys can
be pressed, and once more for the next image. Measured are the time from the last key until the next image is shown, its
decision being on the disk by then, and that from image to image. Checks that every key counted. Prints medians and
maxima.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sam3_lora.label.decisions import read_all
from tests.e2e.browser import chromium, open_page, running_app, tab, wait_until_idle

LABELLER = ".sam3-labeller[data-image]"
_IS_ANOTHER = "([selector, before]) => document.querySelector(selector).dataset.image !== before"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20)
    arguments = parser.parse_args()
    following: list[float] = []
    whole: list[float] = []
    objects: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config"
        with (
            running_app(Path(folder), SAM3_LORA_CONFIG=str(config)) as app,
            chromium() as browser,
            tab(browser) as (page, _),
        ):
            open_page(page, app, "label")
            page.get_by_role("button", name="Try it on the demo").click()
            page.locator(LABELLER).wait_for(timeout=150_000)
            wait_until_idle(page)
            for _ in range(arguments.images):
                began = time.perf_counter()
                name = page.locator(LABELLER).get_attribute("data-image") or ""
                objects[name] = page.locator(".sam3-labeller .items button").count()
                for _ in range(objects[name]):
                    page.keyboard.press("Enter")
                last = time.perf_counter()
                page.keyboard.press("Enter")
                page.wait_for_function(_IS_ANOTHER, arg=[LABELLER, name], timeout=60_000)
                following.append(time.perf_counter() - last)
                whole.append(time.perf_counter() - began)
        (session,) = (config / "label").iterdir()
        decided, _problems = read_all(session / "decisions")
    lost = [name for name, count in objects.items() if len(decided[name].objects) != count]
    for label, times in (("next image", following), ("image to image", whole)):
        print(f"{label}: median {statistics.median(times):.2f} s, at most {max(times):.2f} s")
    print(f"{sum(objects.values())} objects in {len(objects)} images, {len(lost)} images with a lost key")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
