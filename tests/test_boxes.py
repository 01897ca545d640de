"""Box formats go there and back; IoU and GIoU agree with values known by hand and with torchvision."""

import pytest
import torch
from torchvision.ops import box_convert

from sam3_lora import boxes


@pytest.fixture
def random_xyxy() -> torch.Tensor:
    corners = torch.rand(50, 2, 2, dtype=torch.float64) * 100
    return torch.cat((corners.min(dim=1).values, corners.max(dim=1).values + 1), dim=1)


def test_formats_by_hand():
    xywh = torch.tensor([10.0, 20.0, 30.0, 40.0])
    assert boxes.xywh_to_xyxy(xywh).tolist() == [10, 20, 40, 60]
    assert boxes.xyxy_to_cxcywh(boxes.xywh_to_xyxy(xywh)).tolist() == [25, 40, 30, 40]


def test_formats_go_there_and_back(random_xyxy):
    torch.testing.assert_close(boxes.xywh_to_xyxy(box_convert(random_xyxy, "xyxy", "xywh")), random_xyxy)
    torch.testing.assert_close(boxes.cxcywh_to_xyxy(boxes.xyxy_to_cxcywh(random_xyxy)), random_xyxy)


def test_normalize_divides_x_by_width_and_y_by_height(random_xyxy):
    size_hw = (50, 200)
    assert boxes.normalize(torch.tensor([100.0, 25.0, 200.0, 50.0]), size_hw).tolist() == [0.5, 0.5, 1, 1]
    torch.testing.assert_close(boxes.denormalize(boxes.normalize(random_xyxy, size_hw), size_hw), random_xyxy)


def test_formats_equal_torchvision(random_xyxy):
    assert torch.equal(boxes.xyxy_to_cxcywh(random_xyxy), box_convert(random_xyxy, "xyxy", "cxcywh"))
    assert torch.equal(boxes.cxcywh_to_xyxy(random_xyxy), box_convert(random_xyxy, "cxcywh", "xyxy"))
    assert torch.equal(boxes.xywh_to_xyxy(random_xyxy), box_convert(random_xyxy, "xywh", "xyxy"))


def test_pairwise_iou_and_giou_take_batches(random_xyxy):
    a, b = random_xyxy[:20].reshape(5, 4, 4), random_xyxy[20:].reshape(5, 6, 4)
    for pairwise in (boxes.pairwise_iou, boxes.pairwise_giou):
        together = pairwise(a, b)
        assert together.shape == (5, 4, 6)
        torch.testing.assert_close(together[3], pairwise(a[3], b[3]))


def test_matched_is_the_diagonal_of_pairwise(random_xyxy):
    a, b = random_xyxy[:25], random_xyxy[25:]
    torch.testing.assert_close(boxes.matched_iou(a, b), boxes.pairwise_iou(a, b).diagonal())
    torch.testing.assert_close(boxes.matched_giou(a, b), boxes.pairwise_giou(a, b).diagonal())


def test_giou_of_boxes_apart_is_negative_and_of_equal_ones_is_one():
    left, right = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[9.0, 0, 10, 1]])
    assert boxes.pairwise_giou(left, right).item() == pytest.approx(-0.8)
    assert boxes.pairwise_giou(left, left).item() == 1
