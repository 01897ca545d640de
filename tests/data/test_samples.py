"""Samples carry what the annotation file says: pixels as the processor makes them, targets packed and in place."""

import dataclasses
import json
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from sam3_lora.boxes import cxcywh_to_xyxy, denormalize
from sam3_lora.config import AugmentationConfig, Negatives
from sam3_lora.data.dataset import load_image, open_dataset
from sam3_lora.data.loading import make_loader
from sam3_lora.data.prompts import MAX_TOKENS, phrase_of
from sam3_lora.data.samples import Collator, SampleDataset, to_pixel_values
from sam3_lora.errors import DataError
from sam3_lora.masks import mask_to_box_xyxy
from sam3_lora.structures import SoftTargets
from sam3_lora.words import foreign_words
from tests.factories import SIZE_HW, coco, octagon, tiny_processor, write_dataset, write_split

HEIGHT, WIDTH = SIZE_HW


def samples_of(folder, num_negatives=3, seed=0) -> SampleDataset:
    dataset = open_dataset(folder)
    return SampleDataset(
        dataset.split("train").images, tiny_processor(), dataset.categories, Negatives(num_negatives), seed
    )


def one_image(folder, annotations, **entry):
    """A dataset of one image with these annotations."""
    data = coco(images=0, empty_images=1)
    data["annotations"] = [
        {"id": index, "image_id": 0, "category_id": 1, "iscrowd": 0, **values}
        for index, values in enumerate(annotations)
    ]
    write_split(folder / "train", data)
    data["images"][0] |= entry
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    return samples_of(folder)


@pytest.fixture
def samples(tmp_path) -> SampleDataset:
    return samples_of(write_dataset(tmp_path, objects=5, kinds=("polygon", "rle", "uncompressed", "box")))


def test_pixels_are_exactly_the_processors(samples):
    sample = samples[0]
    picture = Image.fromarray(load_image(sample.image))
    expected = tiny_processor()(images=picture, text="x", return_tensors="pt")
    torch.testing.assert_close(sample.pixel_values, expected["pixel_values"][0], rtol=0, atol=0)
    assert sample.pixel_values.dtype == torch.float32
    assert -1 <= sample.pixel_values.min() < -0.5 and 0.5 < sample.pixel_values.max() <= 1


@pytest.mark.parametrize("size_hw", [(500, 900), (901, 333), (168, 168), (20, 700)])
def test_interleaved_pixels_are_resized_as_planes_are(size_hw):
    processor = tiny_processor().image_processor
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    expected = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(to_pixel_values(image, processor), expected)


@pytest.mark.parametrize("size_hw", [(3, 40), (40, 3), (1, 1)])
def test_images_a_few_pixels_wide_keep_their_channels(tmp_path, size_hw):
    pixels = np.zeros((*size_hw, 3), np.uint8)
    pixels[..., 0] = 255
    samples = one_image(tmp_path, [], height=size_hw[0], width=size_hw[1])
    Image.fromarray(pixels).save(samples[0].image.path)
    assert samples[0].pixel_values.mean(dim=(1, 2)).tolist() == pytest.approx([1, -1, -1], abs=1e-5)


def test_boxes_are_normalized_centers_and_sizes(tmp_path):
    targets = one_image(tmp_path, [{"bbox": [16, 12, 32, 24]}])[0].targets
    assert targets.boxes.tolist() == [[0.5, 0.5, 0.5, 0.5]]


def test_targets_are_packed_in_phrase_order(samples):
    for sample in samples:
        targets, record = sample.targets, sample.image
        assert len(targets.counts) == len(sample.phrases) == len(targets.exhaustive)
        assert targets.counts.sum() == len(targets.boxes) == len(targets.mask_valid) == len(record.annotations)
        assert ((targets.boxes >= 0) & (targets.boxes <= 1)).all() and targets.boxes.dtype == torch.float32
        assert targets.exhaustive.all()
        start = 0
        for phrase, count in zip(sample.phrases, targets.counts.tolist(), strict=True):
            own = [item for item in record.annotations if phrase_of(item.category) == phrase]
            assert count == len(own)
            boxes = denormalize(cxcywh_to_xyxy(targets.boxes[start : start + count]), (record.height, record.width))
            for box, item in zip(boxes.tolist(), own, strict=True):
                x, y, w, h = item.bbox_xywh
                assert box == pytest.approx([x, y, x + w, y + h], abs=1e-3)
            start += count


def test_each_mask_lies_where_its_box_is(samples):
    side = samples[0].pixel_values.shape[-1]
    seen = 0
    for sample in samples:
        boxes = cxcywh_to_xyxy(sample.targets.boxes) * side
        for index in torch.nonzero(sample.targets.mask_valid).flatten():
            found = mask_to_box_xyxy(sample.targets.masks[index].numpy())
            # A pixel of the annotated image is `side / WIDTH` pixels of the model's.
            assert found == pytest.approx(boxes[index].tolist(), abs=1 + side / HEIGHT)
            seen += 1
    assert seen == 15


def test_objects_without_a_mask_are_marked(samples):
    for sample in samples:
        has_mask = [
            item.segmentation is not None
            for p in sample.phrases
            for item in sample.image.annotations
            if phrase_of(item.category) == p
        ]
        assert sample.targets.mask_valid.tolist() == has_mask
        if sample.targets.masks is not None:
            assert sample.targets.masks.dtype == torch.bool
            assert not sample.targets.masks[~sample.targets.mask_valid].any()


def test_masks_are_none_where_no_object_has_one(tmp_path):
    samples = samples_of(write_dataset(tmp_path, kinds=("box",)))
    assert samples[0].targets.masks is None and not samples[0].targets.mask_valid.any()
    assert Collator(tiny_processor())([samples[0], samples[1]]).targets.masks is None


def test_a_mask_too_small_to_be_seen_is_not_learned(tmp_path):
    sliver = [[10.0, 10.0, 10.2, 10.0, 10.2, 10.2]]
    targets = one_image(tmp_path, [{"bbox": [10, 10, 2, 2], "segmentation": sliver}])[0].targets
    assert targets.mask_valid.tolist() == [False] and len(targets.boxes) == 1


def test_annotations_refer_to_the_size_in_the_file_even_if_the_picture_was_scaled(tmp_path):
    box = (20, 40, 60, 30)
    samples = one_image(tmp_path, [{"bbox": box, "segmentation": octagon(box)}], width=2 * WIDTH, height=2 * HEIGHT)
    targets, side = samples[0].targets, samples[0].pixel_values.shape[-1]
    expected = [20 / 128, 40 / 96, 80 / 128, 70 / 96]
    assert cxcywh_to_xyxy(targets.boxes)[0].tolist() == pytest.approx(expected)
    assert np.array(mask_to_box_xyxy(targets.masks[0].numpy())) / side == pytest.approx(np.array(expected), abs=0.02)


def test_crowds_are_not_learned(tmp_path):
    crowd = {"bbox": [1, 1, 20, 20], "iscrowd": 1, "category_id": 2}
    sample = one_image(tmp_path, [{"bbox": [5, 5, 20, 20]}, crowd])[0]
    assert sample.phrases[0] == "crack" and "pothole" not in sample.phrases
    assert sample.targets.counts.tolist()[0] == sample.targets.counts.sum() == 1


def test_targets_say_which_phrases_are_not_exhaustive(tmp_path):
    objects = [{"bbox": [5, 5, 20, 20]}, {"bbox": [30, 5, 20, 20], "category_id": 2}]
    sample = one_image(tmp_path, objects, not_exhaustive_category_ids=[2], neg_category_ids=[3])[0]
    assert sample.phrases == ("crack", "pothole", "joint")
    assert sample.targets.exhaustive.tolist() == [True, False, True]


def test_an_image_has_a_phrase_although_all_that_its_file_lists_is_ruled_out(tmp_path):
    crowd = {"bbox": [1, 1, 20, 20], "iscrowd": 1, "category_id": 2}
    sample = one_image(tmp_path, [crowd], neg_category_ids=[2])[0]
    assert len(sample.phrases) == 1 and sample.phrases[0] in foreign_words()


def test_negatives_have_no_objects_and_come_last(samples):
    for sample in samples:
        present = {phrase_of(item.category) for item in sample.image.annotations}
        positives = len(present)
        assert set(sample.phrases[:positives]) == present
        assert len(sample.phrases) == positives + 3
        assert sample.targets.counts[positives:].tolist() == [0, 0, 0]


def test_an_image_without_objects_is_asked_at_least_once(tmp_path):
    samples = samples_of(write_dataset(tmp_path), num_negatives=0)
    assert [len(sample.phrases) for sample in samples] == [2, 2, 2, 2, 1]


def test_negatives_depend_on_seed_epoch_and_index_alone(tmp_path):
    write_dataset(tmp_path)
    samples, other = samples_of(tmp_path), samples_of(tmp_path)
    first = [sample.phrases for sample in samples]
    assert [other[index].phrases for index in (4, 3, 2, 1, 0)] == first[::-1]
    samples.set_epoch(1)
    assert [sample.phrases for sample in samples] != first
    samples.set_epoch(0)
    assert [sample.phrases for sample in samples] == first
    assert [sample.phrases for sample in samples_of(tmp_path, seed=1)] != first


def test_flipped_samples_are_the_same_in_a_mirror(tmp_path):
    write_dataset(tmp_path)
    dataset = open_dataset(tmp_path)
    plain, sideways, both = (
        SampleDataset(
            dataset.split("train").images,
            tiny_processor(),
            dataset.categories,
            Negatives(3),
            seed=0,
            augmentation=AugmentationConfig(flip=flip),
        )
        for flip in ("none", "horizontal", "both")
    )
    seen = []
    for epoch in range(4):
        for samples in (plain, sideways, both):
            samples.set_epoch(epoch)
        for index in range(len(plain)):
            upright, mirrored = plain[index], both[index]
            seen += [sideways[index].flipped, mirrored.flipped]
            back = [axis - 2 for axis in mirrored.flipped]
            assert upright.flipped == ()
            assert mirrored.phrases == upright.phrases
            assert torch.equal(mirrored.pixel_values.flip(back), upright.pixel_values)
            if upright.targets.masks is None:
                continue
            assert torch.equal(mirrored.targets.masks.flip(back), upright.targets.masks)
            for mask, box in zip(mirrored.targets.masks, cxcywh_to_xyxy(mirrored.targets.boxes), strict=True):
                assert np.allclose(mask_to_box_xyxy(mask.numpy()), box.numpy() * mask.shape[-1], atol=2)
    assert set(seen[::2]) == {(), (1,)}
    assert set(seen[1::2]) == {(), (0,), (1,), (0, 1)}


def test_batch_equals_its_samples(samples):
    chosen = [samples[0], samples[4], samples[2]]
    batch = Collator(tiny_processor())(chosen)
    assert batch.phrases == sum((sample.phrases for sample in chosen), ())
    assert batch.image_index.tolist() == [i for i, sample in enumerate(chosen) for _ in sample.phrases]
    assert batch.images == tuple(sample.image for sample in chosen)
    for index, sample in enumerate(chosen):
        torch.testing.assert_close(batch.pixel_values[index], sample.pixel_values, rtol=0, atol=0)
    for name in ("boxes", "counts", "mask_valid", "exhaustive"):
        expected = torch.cat([getattr(sample.targets, name) for sample in chosen])
        assert torch.equal(getattr(batch.targets, name), expected)
    assert torch.equal(batch.targets.masks, torch.cat([chosen[0].targets.masks, chosen[2].targets.masks]))


def test_tokens_are_exactly_the_processors(samples):
    batch = Collator(tiny_processor())([samples[0], samples[1]])
    expected = tiny_processor()(
        images=Image.fromarray(load_image(samples[0].image)), text=list(batch.phrases), return_tensors="pt"
    )
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])


def test_long_phrases_are_cut_to_what_the_text_encoder_takes(tmp_path):
    data = coco(categories=("crack " * 60,))
    write_split(tmp_path / "train", data)
    samples = samples_of(tmp_path)
    batch = Collator(tiny_processor())([samples[0]])
    assert batch.input_ids.shape == (len(batch.phrases), MAX_TOKENS)
    assert batch.input_ids[0, -1] == tiny_processor().tokenizer.eos_token_id


def tensors_of(value, name="") -> dict[str, torch.Tensor]:
    """The tensors in a batch's fields, and in those of its targets, by name."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    if not dataclasses.is_dataclass(value):
        return {}
    found = {}
    for field in dataclasses.fields(value):
        found |= tensors_of(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))
    return found


ON_HOST = {"image_index", "input_ids", "attention_mask", "targets.counts", "targets.mask_valid"}
ON_HOST |= {"soft.phrase_index", "soft.query_index"}


@pytest.fixture
def full_batch(samples):
    """A batch in which no field is left out."""
    batch = Collator(tiny_processor())([samples[0]])
    phrases = len(batch.phrases)
    boxes = {"boxes": torch.ones(phrases, 1, 4), "box_labels": torch.ones(phrases, 1, dtype=torch.int64)}
    predicted = (torch.ones(2, phrases, 5), torch.ones(2, phrases, 5, 4), torch.ones(2, phrases))
    soft = SoftTargets(*predicted, torch.ones(1, 6, 6), torch.tensor([0]), torch.tensor([3]))
    return dataclasses.replace(batch, backbone=torch.ones(1, 4, 8), soft=soft, **boxes)


def test_every_tensor_of_a_batch_is_pinned(full_batch, monkeypatch):
    pinned = []

    def pin(tensor):
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batch = torch.utils.data._utils.pin_memory.pin_memory(full_batch)  # as a loader does it
    assert {name for name, tensor in tensors_of(batch).items() if not any(tensor is one for one in pinned)} == ON_HOST
    assert {name for name, value in vars(batch).items() if value is None} == set()
    for name, tensor in tensors_of(full_batch).items():
        assert torch.equal(tensors_of(batch)[name], tensor)


def test_every_tensor_of_a_batch_moves_but_for_what_the_host_reads(full_batch):
    moved = {name: tensor.device.type for name, tensor in tensors_of(full_batch.to("meta", non_blocking=True)).items()}
    assert {name for name, device in moved.items() if device != "meta"} == ON_HOST


@pytest.mark.parametrize("content", [None, b"no image"])
def test_a_missing_or_broken_image_names_the_file(tmp_path, content):
    samples = samples_of(write_dataset(tmp_path))
    path = open_dataset(tmp_path).split("train").images[0].path
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=path.name):
        samples[0]


def test_samples_and_collator_survive_being_sent_to_a_worker(samples):
    again, collate = pickle.loads(pickle.dumps((samples, Collator(tiny_processor()))))
    batch = collate([again[0]])
    assert batch.phrases == samples[0].phrases
    assert torch.equal(batch.pixel_values[0], samples[0].pixel_values)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forking is for Unix")
def test_workers_that_outlive_an_epoch_draw_new_negatives(samples):
    loader = torch.utils.data.DataLoader(
        samples,
        batch_size=5,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context="fork",
        collate_fn=Collator(tiny_processor()),
    )
    for epoch in (0, 3):
        samples.set_epoch(epoch)
        assert next(iter(loader)).phrases == sum((sample.phrases for sample in samples), ())


def test_no_more_workers_are_started_than_there_are_images(samples):
    assert make_loader(samples, Collator(tiny_processor()), 9, 0, batch_size=1).num_workers == len(samples)
    assert not make_loader(samples, Collator(tiny_processor()), 0, 0, batch_size=1).pin_memory
    assert make_loader(samples, Collator(tiny_processor()), 0, 0, True, batch_size=1).pin_memory
