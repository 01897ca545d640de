"""What people do in the app, for bench/app_memory.py: datasets, adapters, and one round of work in three tabs."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from sam3_lora.config import ASSETS, DEMO, RunConfig
from sam3_lora.demo.broken_copy import make_broken_copy
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import fit
from tests.e2e.browser import App, failures, open_page, tab, wait_until_idle
from tests.factories import write_dataset

PHOTO_HW = (3000, 4000)
COMPONENTS = {"all": None, "no-vision": ["detr_encoder", "detr_decoder"], "vision": ["vision_encoder"]}
PROMPTS = {"demo": 6, "photos": 2, "yolo": 4}  # of each round, by dataset
PATIENCE_MS = 60_000
_EVERY_IMAGE_HAS_COME = "() => [...document.images].every((image) => image.complete)"


@dataclass(frozen=True)
class Material:
    """What the app is opened with."""

    datasets: dict[str, str]  # name -> path
    adapters: list[str]  # names as the page shows them
    folder: Path  # of photographs to prompt


def prepare(folder: Path, photos: int, steps: int) -> Material:
    """Writes five datasets, trains three adapters for a few steps, and sets what the next run will be."""
    known = folder / "material.json"
    if known.exists():
        datasets, adapters, few = json.loads(known.read_text())
        return Material(datasets, adapters, Path(few))
    data = folder / "data"
    datasets = {
        "demo": DEMO,
        "broken": str(make_broken_copy(ASSETS / "demo" / "dataset", data / "broken")),
        "small": str(write_dataset(data / "small", images=300, objects=4)),
        "yolo": str(_as_yolo(ASSETS / "demo" / "dataset", data / "yolo")),
        "photos": str(_photographs(data / "photos", photos)),
    }
    few = data / "few"
    few.mkdir()
    for photo in sorted(Path(datasets["photos"]).glob("train/*.jpg"))[:6]:
        (few / photo.name).symlink_to(photo)
    settings: dict[str, Any] = {"output.runs": str(folder / "runs"), "training.epochs": 1000, "data.num_workers": 0}
    settings["replay.source"] = "none"  # a run that is started again would ask the base for a minute each time
    adapters = []
    for name, components in COMPONENTS.items():
        own = {"lora.components": components} if components else {}
        run = Run.create(RunConfig().with_settings({**settings, **own, "training.max_steps": 3, "output.name": name}))
        fit(run)
        adapters.append(f"{run.name}/last")
    # The newest run's settings are those of the next one.
    longer = {"training.max_steps": steps, "training.checkpoint_every": 50, "output.name": "watched"}
    Run.create(RunConfig().with_settings({**settings, **longer}))
    known.write_text(json.dumps([datasets, adapters, str(few)]))
    return Material(datasets, adapters, few)


def _as_yolo(source: Path, out: Path) -> Path:
    """A dataset in Roboflow's layout as YOLO's boxes; images are copied."""
    names: list[str] = []
    for split in ("train", "valid"):
        data = json.loads((source / split / "_annotations.coco.json").read_bytes())
        names = [one["name"] for one in data["categories"]]
        place = {one["id"]: number for number, one in enumerate(data["categories"])}
        for part in ("images", "labels"):
            (out / split / part).mkdir(parents=True)
        for image in data["images"]:
            lines = []
            for one in data["annotations"]:
                if one["image_id"] == image["id"]:
                    x, y, w, h = one["bbox"]
                    center = (x + w / 2) / image["width"], (y + h / 2) / image["height"]
                    size = w / image["width"], h / image["height"]
                    lines.append(" ".join(map(str, (place[one["category_id"]], *center, *size))))
            name = Path(image["file_name"]).name
            (out / split / "images" / name).write_bytes((source / split / image["file_name"]).read_bytes())
            (out / split / "labels" / name).with_suffix(".txt").write_text("\n".join(lines))
    (out / "data.yaml").write_text(yaml.safe_dump({"train": "train", "val": "valid", "names": names}))
    return out


def _photographs(out: Path, count: int) -> Path:
    """Large photographs, each different: a demo image enlarged, with grain, and moved sideways."""
    height, width = PHOTO_HW
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 24, (height, width, 1), dtype=np.uint8)
    sources = sorted((ASSETS / "demo" / "dataset" / "train").glob("*.jpg"))[:8]
    enlarged = [
        cv2.add(cv2.resize(np.asarray(cv2.imread(str(path))), (width, height)), np.repeat(grain, 3, 2))
        for path in sources
    ]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (out / "train").mkdir(parents=True)
    for number in range(count):
        name = f"photo_{number:03d}.jpg"
        moved = np.roll(enlarged[number % len(enlarged)], 40 * number, axis=1)
        cv2.imwrite(str(out / "train" / name), moved, [cv2.IMWRITE_JPEG_QUALITY, 80])
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for place in range(3):
            x, y, w, h = 200 + 1100 * place, 300 + 10 * (number % 100), 700, 500
            angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            outline = np.stack([x + w / 2 * (1 + np.cos(angles)), y + h / 2 * (1 + np.sin(angles))], 1)
            entry = {"id": len(annotations), "image_id": number, "category_id": place % 2, "bbox": [x, y, w, h]}
            annotations.append({**entry, "segmentation": [outline.round(1).ravel().tolist()], "iscrowd": 0})
    categories = [{"id": 0, "name": "pothole"}, {"id": 1, "name": "crack"}]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (out / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    return out


@dataclass
class _Tab:
    """A browser tab, which can be closed and opened again."""

    page: Any
    stack: ExitStack
    counts: Any  # a session of the browser's own tools


@dataclass
class Workload:
    """Three tabs at work. sampler: is told the phase; is_over: whether no further phase should begin."""

    browser: Any
    app: App
    material: Material
    sampler: Any
    is_over: Callable[[], bool]
    prompts: int = 0
    problems: list[str] = field(default_factory=list)
    tabs: dict[str, _Tab] = field(default_factory=dict)

    def one_round(self, number: int) -> dict[str, dict[str, float]]:
        """The same work each time, with other images and phrases; returns what the tabs hold at its end."""
        for name in ("look", "try", "watch"):
            if name not in self.tabs:
                self._open(name)
        self._do("train", lambda: self._train(number))
        for name in self.material.datasets:
            self._do(f"dataset {name}", partial(self._look, name, number))
        self._do("scan", self._scan)
        self._do("watch", lambda: self._watch(number))
        for dataset, count in PROMPTS.items():
            self._do(f"prompt {dataset}", partial(self._prompt, dataset, count, number))
        self._do("folder", self._folder)
        self._do("evaluate", lambda: self._evaluate(number))
        self._do("configure", lambda: self._configure(number))
        self._do("reload", self._reload)
        heaps = {name: self._heap(one) for name, one in self.tabs.items()}
        self._close("look" if number % 2 else "try")
        return heaps

    def close(self) -> None:
        """Closes all tabs."""
        for name in list(self.tabs):
            self._close(name)

    def _do(self, phase: str, work: Callable[[], None]) -> None:
        if self.is_over():
            return
        self.sampler.phase = phase
        began, found = time.monotonic(), []
        try:
            work()
        except Exception as error:  # the rest of the round goes on; the result says what failed
            found.append(str(error)[:300])
        found += [f"{name}: {text}" for name, one in self.tabs.items() for text in failures(one.page)]
        self.problems += [f"round {self.sampler.round}, {phase}: {text}" for text in found]
        words = f"round {self.sampler.round}, {phase}: {time.monotonic() - began:.0f} s"
        print(f"  {words}", *found, sep="\n    ", file=sys.stderr, flush=True)

    def _open(self, name: str) -> None:
        stack = ExitStack()
        page, _ = stack.enter_context(tab(self.browser))
        page.set_default_timeout(PATIENCE_MS)
        counts = page.context.new_cdp_session(page)
        counts.send("Performance.enable")
        self.tabs[name] = _Tab(page, stack, counts)
        open_page(page, self.app, "train" if name == "watch" else "dataset")

    def _close(self, name: str) -> None:
        self.tabs.pop(name).stack.close()

    def _heap(self, one: _Tab) -> dict[str, float]:
        """MiB that scripts of the page use, and its nodes and listeners, after a collection of garbage."""
        one.counts.send("HeapProfiler.collectGarbage")
        metrics = {item["name"]: item["value"] for item in one.counts.send("Performance.getMetrics")["metrics"]}
        listeners = metrics["JSEventListeners"]
        return {"heap": metrics["JSHeapUsedSize"] / 2**20, "nodes": metrics["Nodes"], "listeners": listeners}

    def _go(self, page: Any, name: str) -> None:
        page.wait_for_function(_EVERY_IMAGE_HAS_COME)
        page.get_by_test_id("stSidebarNavItems").get_by_role("link", name=name).click()
        page.get_by_role("heading", name=name, exact=True).wait_for()
        wait_until_idle(page, 180)

    def _train(self, number: int) -> None:
        """Starts the run, or another one where it has ended."""
        page = self.tabs["watch"].page
        start = page.get_by_role("button", name="Start training", exact=True)
        if start.is_enabled():
            start.click()
            page.get_by_text(re.compile(r"(Preparing|Training)\s*Step")).or_(
                page.get_by_text("Preparing")
            ).first.wait_for()
        if number == 1:
            page.wait_for_selector(".sam3-live-chart .main-svg", timeout=600_000)

    def _watch(self, number: int) -> None:
        """Looks at the details of the run that is trained."""
        page = self.tabs["watch"].page
        for name in ("Adapters", "Last step", "Compare", "All runs", "Log", "Settings"):
            page.get_by_role("tab", name=name).click()
            wait_until_idle(page, 180)
            page.wait_for_timeout(2000)

    def _look(self, dataset: str, number: int) -> None:
        """Opens a dataset, turns pages of its gallery, and steps through large images in both views."""
        page = self.tabs["look"].page
        self._open_dataset(page, dataset)
        for turn in range(2):
            thumbnails = page.locator('[class*="st-key-thumb-"] img')
            thumbnails.first.wait_for()
            page.wait_for_function(_EVERY_IMAGE_HAS_COME)
            page.mouse.wheel(0, 2000)
            following = page.get_by_role("button", name=re.compile("next page", re.IGNORECASE))
            if turn == 0 and following.count():
                for _ in range(1 + number % 5):
                    if following.first.is_enabled():
                        following.first.click()
                        wait_until_idle(page, 180)
        page.locator('[class*="st-key-thumb-0"] img').first.click(force=True)
        page.locator(".sam3-viewer").wait_for()
        wait_until_idle(page, 180)
        self._step_through(page, 4)
        page.get_by_text("What the model sees", exact=True).click()
        wait_until_idle(page, 180)
        self._step_through(page, 2)
        page.get_by_text("Annotations", exact=True).click()
        wait_until_idle(page, 180)
        page.get_by_role("button", name="All images").click()
        wait_until_idle(page, 180)

    @staticmethod
    def _step_through(page: Any, images: int) -> None:
        for _ in range(images):
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(300)
            wait_until_idle(page, 180)

    def _open_dataset(self, page: Any, dataset: str) -> None:
        if not page.locator(".st-key-path input").count():
            self._go(page, "Dataset")
        path = page.locator(".st-key-path input").first
        path.fill(self.material.datasets[dataset])
        path.press("Enter")
        wait_until_idle(page, 180)

    def _scan(self) -> None:
        """Reads every image of the small faulty dataset, and the first photographs of the large one."""
        page = self.tabs["look"].page
        for dataset in ("broken", "photos"):
            self._open_dataset(page, dataset)
            page.get_by_role("radio", name=re.compile("Findings")).first.click()
            wait_until_idle(page, 180)
            page.get_by_role("button", name=re.compile("Scan (all images|again)")).first.click()
            if dataset == "photos":
                page.wait_for_timeout(5000)
                stop = page.get_by_role("button", name="Stop", exact=True)
                if stop.count():
                    stop.click()
            page.get_by_text(re.compile("images scanned|Stopped after")).first.wait_for()
            page.get_by_role("radio", name="Statistics").first.click()
            wait_until_idle(page, 180)
            page.get_by_role("radio", name="Images").first.click()
            wait_until_idle(page, 180)

    def _prompt(self, dataset: str, count: int, number: int) -> None:
        """Prompts images of a dataset, each with the next adapter; moves sliders and takes the results as files."""
        page = self.tabs["try"].page
        self._go(page, "Dataset")
        self._open_dataset(page, dataset)
        self._go(page, "Inference")
        page.get_by_text("From the dataset", exact=True).click()
        wait_until_idle(page, 180)
        for place in range(count):
            self._next_image(page)
            self._choose(page, "Adapter", self.material.adapters[(place + number) % 3])
            phrases = page.get_by_role("textbox", name="Phrases")
            phrases.fill(f"pothole, crack, red circle, thing {self.prompts}")
            phrases.press("Enter")
            wait_until_idle(page, 180)
            page.get_by_role("button", name="Prompt", exact=True).click()
            page.wait_for_timeout(500)
            wait_until_idle(page, 300)
            page.locator('[class*="st-key-predictions-"]').nth(1).wait_for()
            self.prompts += 1
            for slider, key in (("Score threshold", "Home"), ("Adapter strength", "ArrowRight")):
                page.get_by_role("slider", name=slider).first.focus()
                page.keyboard.press(key)
                page.wait_for_timeout(500)
                wait_until_idle(page, 300)
        for label in ("COCO", "Image"):
            with page.expect_download() as download:
                page.get_by_role("button", name=label, exact=True).click()
            download.value.path()

    def _next_image(self, page: Any) -> None:
        box = page.get_by_role("combobox", name="Image of the dataset").first
        before = box.input_value()
        box.click()
        page.wait_for_timeout(300)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        wait_until_idle(page, 180)
        assert box.input_value() != before, "another image"

    def _choose(self, page: Any, label: str, option: str) -> None:
        box = page.get_by_role("combobox", name=label).first
        box.click()
        page.keyboard.type(option)
        page.wait_for_timeout(300)
        page.get_by_role("option", name=option).first.click()
        wait_until_idle(page, 180)

    def _folder(self) -> None:
        page = self.tabs["try"].page
        page.get_by_text("A folder", exact=True).click()
        wait_until_idle(page, 180)
        box = page.get_by_role("textbox", name="Folder of images")
        box.fill(str(self.material.folder))
        box.press("Enter")
        wait_until_idle(page, 180)
        page.get_by_role("button", name="Prompt", exact=True).click()
        page.wait_for_timeout(2000)
        page.wait_for_function(
            "() => !document.querySelector('.st-key-cancel-folder') && "
            "document.querySelectorAll('[class*=\"st-key-found-\"] img').length >= 6",
            timeout=600_000,
        )
        wait_until_idle(page, 180)

    def _evaluate(self, number: int) -> None:
        """Evaluates an adapter on the demo's validation split."""
        page = self.tabs["try"].page
        self._go(page, "Dataset")
        self._open_dataset(page, "demo")
        self._go(page, "Evaluate")
        header = page.get_by_text("New evaluation", exact=True)
        button = page.get_by_role("button", name="Evaluate", exact=True)
        if not button.is_visible():
            header.click()
        button.wait_for()
        self._choose(page, "Adapter", self.material.adapters[number % 3])
        button.click()
        page.get_by_role("button", name="Cancel").wait_for()
        page.wait_for_function("() => !document.querySelector('.st-key-cancel-evaluation')", timeout=600_000)
        wait_until_idle(page, 180)
        page.get_by_text("Worst images", exact=True).click()
        wait_until_idle(page, 180)

    def _configure(self, number: int) -> None:
        """Changes settings one after the other, and sets them back."""
        page = self.tabs["look"].page
        self._go(page, "Configure")
        for preset in ("Minimal", "Balanced"):
            page.get_by_role("radio", name=re.compile(preset)).first.click()
            wait_until_idle(page, 180)
        for rank in (8 + number, 16):
            box = page.get_by_role("spinbutton", name=re.compile("^Rank")).first
            box.fill(str(rank))
            box.press("Enter")
            wait_until_idle(page, 180)

    def _reload(self) -> None:
        for name in ("look", "try"):
            page = self.tabs[name].page
            page.reload()
            page.get_by_test_id("stHeading").first.wait_for()
            wait_until_idle(page, 180)
        time.sleep(1)
