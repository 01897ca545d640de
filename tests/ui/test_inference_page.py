"""The inference page as a person uses it: with an adapter and without, thresholds, uploads, mistakes."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from sam3_lora.config import DataConfig, RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.prompts import phrase_of
from sam3_lora.model import lora
from sam3_lora.model.adapter_files import taught_phrases
from sam3_lora.model.base import load_base
from sam3_lora.predict.postprocess import PhraseResult
from sam3_lora.predict.predictor import Predictor
from sam3_lora.runs.run import Run
from sam3_lora.ui import adapters
from sam3_lora.ui.adapters import NONE
from sam3_lora.ui.inference import result_view
from sam3_lora.ui.inference.results import MIN_THRESHOLD, covered_share
from sam3_lora.ui.state import ADVISED_THRESHOLDS, DATASET_PATH, DATASET_SETTINGS
from tests.factories import write_dataset
from tests.hostile_adapters import CASES, make_adapter
from tests.ui.helpers import ROOT, new_app, texts


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one run, whose adapter predicts something else than the base model."""
    folder = tmp_path_factory.mktemp("runs")
    config = RunConfig().with_settings({"output.runs": str(folder), "output.name": "tried"})
    run = Run.create(config)
    model = lora.attach(load_base("demo").model, config.lora)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    lora.save(model, run.folder / "adapters" / "best", "demo")
    with run.writing() as writer:
        writer.update(force=True, state="finished")
    return folder


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.chdir(ROOT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield new_app()
    torch.set_num_threads(threads)


def visit(app: AppTest, runs: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(runs))
    app.run()
    app.switch_page("pages/inference.py").run()
    assert not app.exception
    return app


def png(size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), 128, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_with_an_adapter_two_results_stand_side_by_side(app: AppTest, runs: Path, monkeypatch) -> None:
    visit(app, runs, monkeypatch)
    assert "No predictions yet" in texts(app)
    assert app.selectbox(key="adapter").value.endswith("tried/best"), "the newest adapter is proposed"
    phrases = [phrase_of(name) for name in open_dataset("demo").categories]
    assert app.text_input(key="phrases").value == ", ".join(phrases[:8])
    app.button(key="prompt").click().run()
    assert not app.exception and not app.error
    assert "**Base model**" in texts(app) and "tried (best)**" in texts(app)
    table = app.dataframe[0].value
    assert table["Phrase"].tolist() == phrases[:8]
    assert {"Base: objects", "Adapter: objects", "Base: best score", "Adapter: best score"} < set(table.columns)
    best = table[["Base: best score", "Adapter: best score"]].fillna(0)
    assert not np.allclose(best["Base: best score"], best["Adapter: best score"])


def test_a_category_with_a_comma_is_proposed_and_prompted_as_one_phrase(app: AppTest, tmp_path, monkeypatch) -> None:
    data = write_dataset(tmp_path / "data", images=1, categories=("damage, severe", "crack", "joint"))
    app.session_state[DATASET_PATH] = str(data)
    visit(app, tmp_path / "none", monkeypatch)
    for typed in (app.text_input(key="phrases").value, "damage, severe, crack; joint"):
        app.text_input(key="phrases").set_value(typed)
        app.button(key="prompt").click().run()
        assert not app.exception and not app.error
        assert app.dataframe[0].value["Phrase"].tolist() == ["damage, severe", "crack", "joint"]


def test_a_phrase_of_the_adapter_is_one_whatever_dataset_is_open(app: AppTest, tmp_path, monkeypatch) -> None:
    data = write_dataset(tmp_path / "data", images=1, categories=("damage, severe", "crack", "joint"))
    settings = {"data.path": str(data), "output.runs": str(tmp_path), "lora.components": ["scoring"]}
    run = Run.create(RunConfig().with_settings(settings))
    lora.save(lora.attach(load_base("demo").model, run.config.lora), run.folder / "adapters" / "best", "demo")
    visit(app, tmp_path, monkeypatch)
    app.text_input(key="phrases").set_value("damage, severe; pothole")
    app.button(key="prompt").click().run()
    assert not app.exception and not app.error
    assert app.dataframe[0].value["Phrase"].tolist() == ["damage, severe", "pothole"]


def test_large_images_are_prompted_in_tiles_where_that_is_chosen(app: AppTest, runs: Path, monkeypatch) -> None:
    sides: list[int] = []
    prompt_tiles = Predictor._prompt_tiles

    def noted(self, tiling, *arguments):
        sides.append(tiling.size)
        return prompt_tiles(self, tiling, *arguments)

    monkeypatch.setattr(Predictor, "_prompt_tiles", noted)
    visit(app, runs, monkeypatch)
    app.text_input(key="phrases").set_value("crack")
    app.button(key="prompt").click().run()
    assert sides == []
    app.selectbox(key="tiles").set_value("In tiles").run()
    assert "Changed since: tiles" in texts(app)
    app.number_input(key="tiles-side").set_value(300).run()
    app.button(key="prompt").click().run()
    assert not app.exception and sides == [300, 300], "base model and adapter"
    app.selectbox(key="tiles").set_value("Whole").run()
    app.button(key="prompt").click().run()
    assert not app.exception and len(sides) == 2


def routed_phrases(app: AppTest) -> dict[str, str]:
    """Who has answered each phrase, as the table says."""
    table = app.dataframe[0].value
    return dict(zip(table["Phrase"], table["Answered by"], strict=True))


def test_phrases_are_routed_by_what_the_adapter_was_taught_or_the_user_types(
    app: AppTest, runs: Path, monkeypatch
) -> None:
    from sam3_lora.predict.predictor import Predictor

    asked: list[tuple[str, ...]] = []
    prompt = Predictor.prompt
    monkeypatch.setattr(
        Predictor,
        "prompt",
        lambda self, phrases, *a, **k: asked.append((self.strength, *phrases)) or prompt(self, phrases, *a, **k),
    )
    (folder,) = runs.glob("*/adapters/best")
    visit(app, runs, monkeypatch)
    app.toggle(key="route").set_value(True).run()
    assert "does not know which phrases" in texts(app) and not app.error
    app.text_input(key="phrases").set_value("crack, toucan")
    app.button(key="prompt").click().run()
    assert "Answered by" not in app.dataframe[0].value and asked == [(0, "crack", "toucan"), (1, "crack", "toucan")]

    app.text_area(key=f"taught-{folder}").set_value("Toucans").run()
    assert routed_phrases(app) == {"crack": "base", "toucan": "adapter"}
    assert len(asked) == 2, "both answers are known"
    app.slider(key="strength").set_value(0.5).run()
    assert routed_phrases(app) == {"crack": "base", "toucan": "adapter"} and asked[2:] == [(0.5, "toucan")]
    table = app.dataframe[0].value.set_index("Phrase")
    assert table.loc["crack", "Adapter: best score"] == table.loc["crack", "Base: best score"]
    assert table.loc["toucan", "Adapter: best score"] != table.loc["toucan", "Base: best score"]
    assert "routed by phrase" in texts(app)

    app.text_area(key=f"taught-{folder}").set_value("").run()
    taught_phrases.write(folder, ["crack"])
    assert "does not know" in texts(app), "the user's own word counts in this tab"
    other = visit(new_app(), runs, monkeypatch)
    other.toggle(key="route").set_value(True).run()
    assert "The adapter answers crack" in texts(other)
    assert other.text_area(key=f"taught-{folder}").value == "crack"
    (folder / taught_phrases.FILE).unlink()


def test_threshold_filters_without_running_the_model_again(app: AppTest, runs: Path, monkeypatch) -> None:
    from sam3_lora.predict.predictor import Predictor

    monkeypatch.setattr(result_view, "MAX_DRAWN", 3)  # the noisy masks of an untrained model are slow to draw
    visit(app, runs, monkeypatch)
    app.text_input(key="phrases").set_value("line, bar, blob, twig")  # which the base model knows
    app.slider(key="threshold").set_value(0.95)
    app.button(key="prompt").click().run()
    monkeypatch.setattr(Predictor, "prompt", lambda *_, **__: pytest.fail("the model ran again"))
    counts = []
    for threshold in (0.95, 0.5, MIN_THRESHOLD):
        app.slider(key="threshold").set_value(threshold).run()
        assert not app.exception and not app.error
        table = app.dataframe[0].value
        counts.append(table[["Base: objects", "Adapter: objects"]].to_numpy().sum())
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_where_nothing_is_shown_the_highest_score_is_offered_as_a_threshold(
    app: AppTest, tmp_path, monkeypatch
) -> None:
    visit(app, tmp_path / "none", monkeypatch)
    app.text_input(key="phrases").set_value("line, bar, blob, twig")
    app.slider(key="threshold").set_value(0.95)
    app.button(key="prompt").click().run()
    assert app.dataframe[0].value["Base: objects"].sum() == 0
    best = app.dataframe[0].value["Base: best score"].max()
    app.button(key="show-from-base").click().run()
    assert best - 0.05 < app.slider(key="threshold").value <= best
    assert app.dataframe[0].value["Base: objects"].sum() > 0 and not app.exception


def test_thresholds_of_an_evaluation_disable_the_slider_that_they_override(
    app: AppTest, runs: Path, monkeypatch
) -> None:
    visit(app, runs, monkeypatch)
    app.session_state[ADVISED_THRESHOLDS] = {app.selectbox(key="adapter").value: {"crack": 0.3}}
    assert not app.slider(key="threshold").disabled, "it holds for the other phrases"
    app.text_input(key="phrases").set_value("crack")
    app.button(key="prompt").click().run()
    assert app.slider(key="threshold").disabled
    app.selectbox(key="adapter").set_value(NONE).run()
    assert not app.slider(key="threshold").disabled, "they hold for the adapter that was evaluated"
    app.selectbox(key="adapter").set_value(next(iter(app.session_state[ADVISED_THRESHOLDS]))).run()
    assert app.slider(key="threshold").disabled
    app.toggle(key="use_advised").set_value(False).run()
    assert not app.slider(key="threshold").disabled


def test_without_any_adapter_the_base_predicts_and_training_is_offered(app: AppTest, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(adapters, "DEMO_FOLDER", tmp_path / "none")
    visit(app, tmp_path / "none", monkeypatch)
    assert app.selectbox(key="adapter").value == NONE
    assert "No adapters yet" in texts(app)
    app.text_input(key="phrases").set_value("ring, , ring , star")
    app.button(key="prompt").click().run()
    assert not app.exception and not app.error
    assert app.dataframe[0].value["Phrase"].tolist() == ["ring", "star"]
    assert "Adapter: objects" not in app.dataframe[0].value
    assert "No adapter selected" in texts(app)


@pytest.mark.parametrize("kind", ["missing", "empty", "not JSON", "half-written"])
def test_wrong_adapter_folder_gives_a_sentence(app: AppTest, runs: Path, tmp_path, monkeypatch, kind: str) -> None:
    folder = tmp_path / "adapter"
    if kind != "missing":
        folder.mkdir()
    if kind == "not JSON":
        (folder / "adapter_config.json").write_text("{")
    if kind == "half-written":
        good = next(runs.glob("*/adapters/best"))
        for file in good.iterdir():
            (folder / file.name).write_bytes(file.read_bytes()[: None if file.suffix == ".json" else 100])
    app.query_params["adapter"] = str(folder)  # as if typed: AppTest can only choose
    visit(app, runs, monkeypatch)
    if not app.error:
        app.button(key="prompt").click().run()
    assert not app.exception
    (box,) = app.error
    assert str(folder) in box.value.replace("\\", "")
    assert "unexpected error" not in box.value


@pytest.mark.parametrize("typed", ["{run}", "{run}/adapters", "{name}", "{name}/last"])
def test_a_run_means_its_adapter_and_one_that_it_has_not_is_told(
    app: AppTest, runs: Path, monkeypatch, typed: str
) -> None:
    (run,) = runs.glob("*-tried")
    app.query_params["adapter"] = typed.format(run=run, name=run.name)
    visit(app, runs, monkeypatch)
    best = str(run / "adapters" / "best")
    if typed.endswith("last"):
        assert best in app.error[0].value.replace("\\", "")
    else:
        assert not app.error and best in texts(app).replace("\\", "")


def test_without_a_phrase_a_sentence_asks_for_one(app: AppTest, runs: Path, monkeypatch) -> None:
    visit(app, runs, monkeypatch)
    app.text_input(key="phrases").set_value(" , ")
    app.button(key="prompt").click().run()
    assert not app.exception
    assert "at least one phrase" in app.error[0].value


def test_uploaded_image_is_prompted(app: AppTest, runs: Path, monkeypatch) -> None:
    visit(app, runs, monkeypatch)
    app.segmented_control(key="image_source").set_value("Upload").run()
    assert app.button(key="prompt").disabled, "there is no image yet"
    app.file_uploader[0].upload("mine.png", png()).run()
    app.button(key="prompt").click().run()
    assert not app.exception and not app.error
    assert len(app.dataframe) == 1


@pytest.mark.parametrize("content", [b"", b"no image", png()[:60]], ids=["empty", "text", "half"])
def test_broken_upload_gives_one_sentence(app: AppTest, runs: Path, monkeypatch, content: bytes) -> None:
    visit(app, runs, monkeypatch)
    app.segmented_control(key="image_source").set_value("Upload").run()
    app.file_uploader[0].upload("broken.png", content).run()
    assert not app.exception
    (box,) = app.error
    assert "broken.png" in box.value.replace("\\", "")
    assert app.button(key="prompt").disabled


def test_image_opened_on_the_dataset_page_is_the_one_proposed(app: AppTest, runs: Path, monkeypatch) -> None:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(runs))
    app.switch_page("pages/dataset.py").run()
    app.button(key="open-2").click().run()
    opened = f"{app.session_state['split']}/{app.session_state['image']}"
    app.switch_page("pages/inference.py").run()
    assert app.selectbox(key="on_image").value == opened


def test_an_image_folder_chosen_after_the_first_visit_is_used(app: AppTest, tmp_path, monkeypatch) -> None:
    data, photos = write_dataset(tmp_path / "data", splits=("train",)), tmp_path / "photos"
    photos.mkdir()
    for image in (data / "train").glob("*.[jp]*g"):
        image.rename(photos / image.name)
    app.session_state[DATASET_PATH] = str(data)
    visit(app, tmp_path / "none", monkeypatch)
    assert app.error, "its images are somewhere else"
    app.session_state[DATASET_SETTINGS] = {str(data): DataConfig(path=str(data), image_dir=str(photos))}
    app.run()
    assert not app.exception and not app.error and app.button(key="open-example-0")


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["look-ahead", "NaN", "fewer layers than weights"])
def test_a_hostile_adapter_gives_one_sentence_and_its_archive_is_not_kept(
    app: AppTest, tmp_path: Path, monkeypatch, name: str
) -> None:
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path / "cache"))
    folder = make_adapter(tmp_path / "hostile")
    visit(app, tmp_path / "none", monkeypatch)
    app.file_uploader(key="adapter-archive").upload("good.zip", zipped(folder)).run()
    assert not app.error and app.selectbox(key="adapter").value.startswith("uploaded/good-")
    damage, said = CASES[name]
    damage(folder)
    app.file_uploader(key="adapter-archive").upload("hostile.zip", zipped(folder)).run()
    (box,) = app.error
    assert re.search(said, box.value.replace("\\", "")) and "the archive" in box.value
    assert [path.name[:5] for path in (tmp_path / "cache" / "adapters").iterdir()] == ["good-"]
    assert not app.exception


def test_base_and_adapter_can_be_seen_as_one_picture_with_a_slider(app: AppTest, runs: Path, monkeypatch) -> None:
    monkeypatch.setattr(result_view, "MAX_DRAWN", 3)
    visit(app, runs, monkeypatch)
    app.button(key="prompt").click().run()
    app.segmented_control(key="compare-view").set_value("Slider").run()
    assert not app.exception and not app.error
    assert {"Base: objects", "Adapter: objects"} <= set(app.dataframe[0].value)
    assert any("before-after" in each.proto.id for each in app.get("download_button"))


def test_the_area_of_overlapping_masks_counts_once() -> None:
    left, right, top = (np.full((12, 16), -1.0, np.float32) for _ in range(3))
    left[:, :8] = right[:, 8:] = top[:6] = 1.0
    for logits, expected in (([left], 0.5), ([left, left], 0.5), ([left, right], 1.0), ([left, top], 0.75)):
        masks = np.stack(logits)
        count = len(masks)
        found = PhraseResult("crack", np.zeros((count, 4)), np.ones(count), masks, (120, 160))
        assert covered_share(found) == pytest.approx(expected, abs=0.03)
