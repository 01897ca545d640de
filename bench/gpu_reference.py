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

from sam3_lora.structures import Targets
from tests.parity import reference_loss

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
            focal = functools.partial(reference_loss.loss_fns.sigmoid_focal_loss, triton=False)
            self._patches.append(mock.patch.object(reference_loss.loss_fns, "sigmoid_focal_loss", focal))
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
        self._loss = reference_loss.loss_wrapper()
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
        for layer in (output, *output["aux_outputs"]):
            layer["Q_det"] = layer["Q_det_o2m"] = layer["pred_logits"].shape[1]  # all queries detect, none tracks
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
        heads.matcher = reference_loss.hungarian_matcher()
        heads.back_convert = lambda targets: targets
        return heads

    def _as_targets(self, targets: Targets) -> dict[str, Any]:
        objects = len(targets.boxes)
        named = reference_loss.as_targets(targets) | {
            "positive_map": torch.ones(objects, 1),
            "object_ids_packed": torch.arange(objects),
        }
        return {name: value.to(self._device) for name, value in named.items()} | {"semantic_masks": None}

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


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
