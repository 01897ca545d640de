"""The folder job: prompts every image of a folder in the background."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from sam3_lora.errors import Cancelled
from sam3_lora.predict.export import FoundImage
from sam3_lora.predict.folder import Skipped, images_in, predict_images
from sam3_lora.predict.tiled.choice import TilesChoice
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.components.images import THUMBNAIL_SIZE, to_jpeg
from sam3_lora.ui.inference.concepts import known
from sam3_lora.ui.inference.downloads import draw
from sam3_lora.ui.inference.results import BoxedImage
from sam3_lora.ui.inference.view_state import ViewState
from sam3_lora.ui.resources import SharedPredictor


@dataclass(frozen=True)
class FolderRequest:
    """What is prompted, and how the predictions are filtered and drawn."""

    folder: Path
    phrases: tuple[str, ...]
    model: str  # its name for people
    strength: float | None  # of the adapter; None: the base model alone
    view: ViewState
    tiles: TilesChoice = "predictor"
    references: tuple[BoxedImage, ...] = ()


@dataclass(frozen=True)
class FolderResult:
    """The predictions so far, in the order of the images' names."""

    total: int  # images in the folder
    found: tuple[FoundImage, ...] = ()
    thumbnails: tuple[bytes, ...] = ()  # JPEG, one for each of found
    skipped: tuple[Skipped, ...] = ()

    @property
    def processed(self) -> int:
        """Images that are done, the skipped ones included."""
        return len(self.found) + len(self.skipped)


FolderJob = BackgroundJob[FolderRequest, FolderResult]


@st.cache_resource(show_spinner=False)
def folder_job() -> FolderJob:
    """The folder job of this process."""
    return BackgroundJob("folder")


def start_folder(job: FolderJob, shared: SharedPredictor, request: FolderRequest) -> bool:
    """Starts in the background; False, with nothing done, while the job is active.

    Cancelled, it ends after the image in progress and keeps what was predicted until then.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    paths = images_in(request.folder)
    return job.start(request, lambda: _prompt_images(job, shared, request, paths))


def _prompt_images(job: FolderJob, shared: SharedPredictor, request: FolderRequest, paths: list[Path]) -> FolderResult:
    result = FolderResult(len(paths))
    job.report(0.0, "Starting", result)
    with shared.lock:
        known.make_known(shared.predictor, request.phrases)
    view = request.view
    predictions = predict_images(
        shared.predictor,
        paths,
        request.folder,
        request.phrases,
        view.postprocess,
        view.thresholds,
        strength=request.strength,
        routing=view.routing,
        tiles=request.tiles,
        references=[one.as_reference() for one in request.references],
        lock=shared.lock,
    )
    for image in predictions:
        if isinstance(image, Skipped):
            name = image.name
            result = replace(result, skipped=(*result.skipped, image))
        else:
            name = image.found.name
            thumbnail = to_jpeg(draw(image.found, image.pixels, view.colors, THUMBNAIL_SIZE))
            result = replace(result, found=(*result.found, image.found), thumbnails=(*result.thumbnails, thumbnail))
        job.report(result.processed / result.total, f"{result.processed} of {result.total}: {name}", result)
        if job.is_cancelled() and result.processed < result.total:
            raise Cancelled
    return result
