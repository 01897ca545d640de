"""The parts of a loss term's name, and its weight.

"loss_bbox_aux_3_o2m" is the L1 distance of boxes in auxiliary layer 3 of the one-to-many queries.
"""

from __future__ import annotations

import re

from sam3_lora.config import LossConfig

MAIN, AUXILIARY, ONE_TO_MANY = "main", "auxiliary", "one-to-many"

_AUXILIARY_SUFFIX = re.compile(r"_aux_\d+")


def split_name(name: str) -> tuple[str, str]:
    """The term itself and its group: "loss_bbox_aux_3" -> ("loss_bbox", "auxiliary").

    A one-to-many term of an auxiliary layer counts as one-to-many.
    """
    base = _AUXILIARY_SUFFIX.sub("", name)
    if base.endswith("_o2m"):
        return base.removesuffix("_o2m"), ONE_TO_MANY
    return base, MAIN if base == name else AUXILIARY


def weight_of(name: str, loss: LossConfig) -> float:
    """The weight of a term in the total.

    Args:
        name: of the term, such as "loss_bbox_aux_3_o2m".
        loss: the configured weights.
    """
    term, group = split_name(name)
    return getattr(loss, term) * (loss.o2m_weight if group == ONE_TO_MANY else 1.0)
