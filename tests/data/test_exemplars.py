"""Exemplar boxes of training prompts: around an object of the phrase, beside the word or instead of it."""

import numpy as np
import pytest
import torch

from sam3_lora.boxes import cxcywh_to_xyxy, pairwise_iou
from sam3_lora.config import AugmentationConfig, Negatives
from sam3_lora.data.augmentation.exemplars import pack_boxes, with_exemplars
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.samples import Collator, SampleDataset
from sam3_lora.structures import PADDING_LABEL, VISUAL, Targets
from tests.factories import tiny_processor, write_dataset

BOXES = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.6, 0.6, 0.1, 0.3], [0.9, 0.5, 0.2, 0.6]])
PHRASES = ("crack", "pothole", "cat")
TARGETS = Targets(BOXES, torch.tensor([2, 1, 0]), None, torch.zeros(3, dtype=torch.bool), torch.ones(3).bool())


def prompts(seed, boxes_added=1.0, word_dropped=0.0):
    return with_exemplars(PHRASES, TARGETS, boxes_added, word_dropped, np.random.default_rng(seed))


def test_each_box_is_around_an_object_of_its_phrase_but_not_quite_exact():
    seen = set()
    for seed in range(100):
        found = prompts(seed)
        assert found.labels.flatten().tolist() == [1, 1, PADDING_LABEL]
        assert found.phrases == PHRASES
        for place, own in ((0, BOXES[:2]), (1, BOXES[2:])):
            box = found.boxes[place]
            ious = pairwise_iou(cxcywh_to_xyxy(box), cxcywh_to_xyxy(own))[0]
            assert 0.5 < ious.max() < 1
            seen.add((place, int(ious.argmax())))
            edges = cxcywh_to_xyxy(box)[0]
            assert ((edges >= 0) & (edges <= 1)).all()
            assert (edges - cxcywh_to_xyxy(own[ious.argmax()])).abs().max() <= 20 / 1008 + 1e-6
    assert seen == {(0, 0), (0, 1), (1, 0)}


def test_words_are_dropped_and_boxes_added_as_often_as_set():
    counts = {"word": 0, "box": 0, "dropped": 0}
    for seed in range(1500):
        found = prompts(seed, boxes_added=0.3, word_dropped=0.1)
        phrases, labels = (PHRASES, [PADDING_LABEL] * 3) if found is None else (found.phrases, found.labels[:, 0])
        assert phrases[2] == "cat"  # nothing is dropped of what is absent: there is no box
        for phrase, label in zip(phrases[:2], labels, strict=False):
            assert phrase != VISUAL or label == 1
            counts["dropped" if phrase == VISUAL else "box" if label == 1 else "word"] += 1
    assert counts["dropped"] / 3000 == pytest.approx(0.1, abs=0.02)
    assert counts["box"] / 3000 == pytest.approx(0.3, abs=0.03)


def test_without_a_chance_no_phrase_gets_a_box():
    assert prompts(0, boxes_added=0.0) is None


def test_boxes_of_several_images_are_padded():
    one, two = torch.rand(1, 2, 4), torch.rand(2, 1, 4)
    labels = torch.tensor([[1, 1]]), torch.tensor([[1], [PADDING_LABEL]])
    boxes, packed = pack_boxes([(1, one, labels[0]), (3, None, None), (2, two, labels[1])])
    assert boxes.shape == (6, 2, 4) and packed.dtype == torch.int64
    assert packed.tolist() == [[1, 1], *[[PADDING_LABEL] * 2] * 3, [1, PADDING_LABEL], [PADDING_LABEL] * 2]
    assert torch.equal(boxes[:1], one) and torch.equal(boxes[4:, :1], two) and not boxes[1:4].any()
    assert pack_boxes([(2, None, None)]) == (None, None)


def samples_of(folder, **settings) -> SampleDataset:
    split = open_dataset(folder).split("train")
    changes = AugmentationConfig(**settings)
    return SampleDataset(split.images, tiny_processor(), split.categories, Negatives(2), seed=0, augmentation=changes)


@pytest.mark.parametrize("flip", ["none", "both"])
def test_boxes_lie_on_the_objects_of_the_sample_as_it_is_changed(tmp_path, flip):
    settings = {"flip": flip, "scale_min": 0.5, "crop_min": 0.5, "boxes_added": 0.5, "word_dropped": 0.5}
    samples = samples_of(write_dataset(tmp_path, objects=4), **settings)
    dropped = 0
    for sample in samples:
        first = 0
        for place, count in enumerate(sample.targets.counts.tolist()):
            own, first = sample.targets.boxes[first : first + count], first + count
            if not count:
                assert sample.boxes is None or sample.box_labels[place, 0] == PADDING_LABEL
                continue
            dropped += sample.phrases[place] == VISUAL
            ious = pairwise_iou(cxcywh_to_xyxy(sample.boxes[place]), cxcywh_to_xyxy(own))
            assert ious.max() > 0.4
    assert dropped


def test_samples_depend_on_seed_epoch_and_index_alone(tmp_path):
    everything = {"scale_min": 0.5, "crop_min": 0.5, "rotation": 10, "color_jitter": 0.3, "hue": 0.1}
    folder = write_dataset(tmp_path, objects=4)
    samples, again = (samples_of(folder, **everything, boxes_added=0.4, word_dropped=0.4) for _ in range(2))
    collate = Collator(tiny_processor())
    for epoch in (0, 1):
        samples.set_epoch(epoch)
        again.set_epoch(epoch)
        backwards = {index: again[index] for index in reversed(range(len(again)))}
        for index in range(len(samples)):
            one, other = collate([samples[index]]), collate([backwards[index]])
            assert one.phrases == other.phrases
            for name in ("pixel_values", "boxes", "box_labels"):
                ours, theirs = getattr(one, name), getattr(other, name)
                assert (ours is None) == (theirs is None) and (ours is None or torch.equal(ours, theirs))
            assert torch.equal(one.targets.boxes, other.targets.boxes)
    samples.set_epoch(5)
    assert not torch.equal(samples[0].pixel_values, again[0].pixel_values)


def test_boxes_alone_change_no_other_number(tmp_path):
    folder = write_dataset(tmp_path, objects=4)
    for plain, boxed in zip(samples_of(folder), samples_of(folder, boxes_added=1.0), strict=True):
        assert plain.phrases == boxed.phrases and plain.flipped == boxed.flipped
        assert torch.equal(plain.pixel_values, boxed.pixel_values)
        assert torch.equal(plain.targets.boxes, boxed.targets.boxes)
        assert (boxed.boxes is None) == (not len(boxed.targets.boxes)) and plain.boxes is None
