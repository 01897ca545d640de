"""The reference implementation's own image model, loss and optimizer as one training step, for bench/gpu.py.

Package sam3 with random weights. It checkpoints its activations itself. Its vision encoder has LoRA on the same layers
as ours; its heads cannot carry LoRA (their attention is fused), so that norms and biases are trained there. It has no
text encoder: features of phrases are given.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from sam3_lora.boxes import cxcywh_to_xyxy
from sam3_lora.structures import Targets

TOKENS, REAL_TOKENS = 32, 6


class ReferenceStep:
    """One image with phrases.

    Args:
        device: to train on.
        size: side of the image in pixels.
        vit: arguments of the reference's ViT: depth, embed_dim, num_heads, global_att_blocks.
        targets: of the phrases, on the device.
        rank: of LoRA in the vision encoder.
    """

    def __init__(self, device: torch.device, size: int, vit: dict[str, Any], targets: Targets, rank: int) -> None:
        import peft
        import sam3.model_builder as builder
        from sam3.model.vitdet import ViT

        self._device = device
        self._patches: list[Any] = [mock.patch.object(self._decoders(), "_get_coords", staticmethod(self._coordinates))]
        if device.type != "cuda":  # its focal loss is a Triton kernel, and it pins memory
            self._patches.append(mock.patch.object(Tensor, "pin_memory", lambda tensor, *_, **__: tensor))
        for patch in self._patches:
            patch.start()
        with device:
            backbone = ViT(
                img_size=size,
                pretrain_img_size=336,
                patch_size=14,
                mlp_ratio=4.625,
                norm_layer="LayerNorm",
                drop_path_rate=0.1,
                qkv_bias=True,
                use_abs_pos=True,
                tile_abs_pos=True,
                rel_pos_blocks=(),
                use_rope=True,
                use_interp_rope=True,
                window_size=24,
                pretrain_use_cls_token=True,
                retain_cls_token=False,
                ln_pre=True,
                ln_post=False,
                return_interm_layers=False,
                bias_patch_embed=False,
                **vit,
            )
            self.vision = builder._create_vit_neck(builder._create_position_encoding(), backbone)
            self.heads: Any = self._build_heads(builder)
        self.vision.requires_grad_(False)
        lora = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules=["qkv", "proj", "fc1", "fc2"]
        )
        peft.inject_adapter_in_model(lora, backbone.blocks)
        self.vision.to(device).train()
        self.heads.to(device).train()
        for parameter in self.heads.parameters():
            parameter.requires_grad_(parameter.dim() == 1)
        self._loss = self._make_loss()
        self._targets = self._as_targets(targets)
        self._phrases = len(targets.counts)
        self._pixels = torch.randn(1, 3, size, size, device=device)
        self._text = torch.randn(TOKENS, self._phrases, 256, device=device)
        parts = (self.vision, self.heads)
        self.parameters = [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)

    def __call__(self) -> float:
        """One step; the loss."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            output = self._forward()
        output = {name: _single(value) for name, value in output.items()}
        output["aux_outputs"] = [{k: _single(v) for k, v in layer.items()} for layer in output["aux_outputs"]]
        stages = self._stages()
        stages.append([output])
        total: Tensor = self._loss(stages, [self._targets])["core_loss"]
        total.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(total.detach())

    def close(self) -> None:
        """Takes back what was replaced in the package."""
        for patch in self._patches:
            patch.stop()

    def _forward(self) -> dict[str, Any]:
        fpn, position, *_ = self.vision(self._pixels)
        padding = torch.zeros(self._phrases, TOKENS, dtype=torch.bool, device=self._device)
        padding[:, REAL_TOKENS:] = True
        backbone = {
            "backbone_fpn": list(fpn[:3]),
            "vision_pos_enc": list(position[:3]),
            "language_features": self._text,
            "language_mask": padding,
        }
        phrases = torch.arange(self._phrases, device=self._device)
        asked = SimpleNamespace(text_ids=phrases, img_ids=torch.zeros_like(phrases))
        prompt = self.heads._get_dummy_prompt(self._phrases)
        found: dict[str, Any] = self.heads.forward_grounding(backbone, asked, self._targets, prompt)
        return found

    def _build_heads(self, builder: Any) -> Any:
        from sam3.model.model_misc import TransformerWrapper

        transformer = TransformerWrapper(
            encoder=builder._create_transformer_encoder(), decoder=builder._create_transformer_decoder(), d_model=256
        )
        heads: Any = builder._create_sam3_model(
            nn.Identity(),
            transformer,
            builder._create_geometry_encoder(),
            builder._create_segmentation_head(),
            builder._create_dot_product_scoring(),
            None,
            eval_mode=True,
        )
        heads.matcher = _hungarian()
        heads.back_convert = lambda targets: targets
        return heads

    def _make_loss(self) -> nn.Module:
        import sam3.train.loss.loss_fns as loss_fns
        from sam3.train.loss.sam3_loss import Sam3LossWrapper
        from sam3.train.matcher import BinaryOneToManyMatcher

        if self._device.type != "cuda":
            plain = functools.partial(loss_fns.sigmoid_focal_loss, triton=False)
            self._patches.append(mock.patch.object(loss_fns, "sigmoid_focal_loss", plain))
            self._patches[-1].start()
        boxes = loss_fns.Boxes(weight_dict={"loss_bbox": 5.0, "loss_giou": 2.0})
        classification = loss_fns.IABCEMdetr(
            weight_dict={"loss_ce": 20.0, "presence_loss": 20.0},
            pos_weight=10.0,
            gamma=2,
            alpha=0.25,
            weak_loss=False,
            pos_focal=False,
            use_presence=True,
            pad_n_queries=200,
            pad_scale_pos=1.0,
        )
        masks = loss_fns.Masks(
            weight_dict={"loss_mask": 200.0, "loss_dice": 10.0}, focal_alpha=0.25, focal_gamma=2.0, compute_aux=False
        )
        wrapper: nn.Module = Sam3LossWrapper(
            loss_fns_find=[boxes, classification, masks],
            normalization="local",
            matcher=_hungarian(),
            o2m_matcher=BinaryOneToManyMatcher(alpha=0.3, threshold=0.4, topk=4),
            o2m_weight=2.0,
            use_o2m_matcher_on_o2m_aux=False,
        )
        return wrapper

    def _as_targets(self, targets: Targets) -> dict[str, Any]:
        counts = targets.counts.tolist()
        ids = [torch.arange(count, device=self._device) for count in counts]
        objects = len(targets.boxes)
        return {
            "boxes": targets.boxes,
            "boxes_xyxy": cxcywh_to_xyxy(targets.boxes),
            "boxes_padded": nn.utils.rnn.pad_sequence(list(targets.boxes.split(counts)), batch_first=True),
            "num_boxes": targets.counts.to(self._device),
            "masks": targets.masks,
            "is_valid_mask": targets.mask_valid.to(self._device),
            "is_exhaustive": targets.exhaustive,
            "object_ids_padded": nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-1),
            "positive_map": torch.ones(objects, 1, device=self._device),
            "semantic_masks": None,
            "object_ids_packed": torch.arange(objects, device=self._device),
        }

    def _stages(self) -> Any:
        from sam3.model.model_misc import SAM3Output

        return SAM3Output(iter_mode=SAM3Output.IterMode.LAST_STEP_PER_STAGE)

    def _coordinates(self, height: int, width: int, device: Any) -> tuple[Tensor, Tensor]:
        rows = torch.arange(height, dtype=torch.float32, device=self._device) / height
        return rows, torch.arange(width, dtype=torch.float32, device=self._device) / width

    @staticmethod
    def _decoders() -> Any:
        from sam3.model.decoder import TransformerDecoder

        return TransformerDecoder


def _hungarian() -> nn.Module:
    from sam3.train.matcher import BinaryHungarianMatcherV2

    matcher: nn.Module = BinaryHungarianMatcherV2(
        cost_class=2.0, cost_bbox=5.0, cost_giou=2.0, focal=True, alpha=0.25, gamma=2, stable=False
    )
    return matcher


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
