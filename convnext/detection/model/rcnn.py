"""Mask R-CNN and Cascade Mask R-CNN: backbone, pyramid, proposals, regions (paper section 4.1, Table 3).

Faster R-CNN and Cascade R-CNN are the same without the heads for masks: for objects of which only boxes are known.

Shapes: N images, G ground-truth objects of an image, D detections of an image. The modules are named as in the official
detection code and mmdetection, so that released files load without a key map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ...dense.model import DenseBackbone, DenseModel
from ...errors import UserError
from ...models.convnext import Backbone
from ...models.pyramid import FPN
from .boxes import Size
from .roi_head import RoIHead, Stage
from .rpn import SIZE_DIVISOR, RPNHead, RPNSettings, Target

Kind = Literal["mask_rcnn", "cascade_mask_rcnn", "faster_rcnn", "cascade_rcnn"]
WITHOUT_MASKS: dict[Kind, Kind] = {"mask_rcnn": "faster_rcnn", "cascade_mask_rcnn": "cascade_rcnn"}
WIDTH = 256  # channels of the pyramid and the heads
CASCADE = (  # official code: object_detection/configs/_base_/models/cascade_mask_rcnn_convnext_fpn.py
    Stage(0.5, (0.1, 0.1, 0.2, 0.2), 1.0, allow_low_quality_matches=False, decoded=True),
    Stage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5, allow_low_quality_matches=False, decoded=True),
    Stage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25, allow_low_quality_matches=False, decoded=True),
)


class Detector(DenseModel):
    """Images in; losses out while training, detections otherwise."""

    def __init__(self, kind: Kind, backbone: DenseBackbone, neck: FPN, rpn_head: RPNHead, roi_head: RoIHead) -> None:
        super().__init__()
        self.kind, self.num_classes = kind, roi_head.num_classes
        self.backbone = cast(Backbone, backbone)  # or another module with its maps
        self.neck, self.rpn_head, self.roi_head = neck, rpn_head, roi_head

    @property
    def masked(self) -> bool:
        """Whether it outlines what it finds."""
        return self.roi_head.masked

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Target] | None = None,
        *,
        originals: Sequence[Size] | None = None,
        pasted: bool = True,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Normalised images (3, H, W), of any sizes.

        Training: `targets` holds, for each image, "boxes" (G, 4) in pixels as x1, y1, x2, y2, "labels" (G,) from 0,
        "masks" (G, H, W), and where there are any "ignored" (I, 4) boxes; returns named losses.

        Evaluation: returns, for each image, "boxes" (D, 4), "scores" (D,), "labels" (D,) and "masks" (D, H, W), best
        first, in the frame of `originals` (height and width before the image was resized; None: as given). Not
        `pasted`: "probabilities" instead of "masks", for `roi_head.masks`.

        A detector without masks neither reads nor returns any.
        """
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch = pad(images)
        pyramid = self.neck(self.backbone.features(batch))
        if self.training:
            if targets is None:
                raise ValueError("a detector in training mode needs targets; call eval() to detect")
            padded = [_padded(target, batch.shape[-2:]) for target in targets] if self.masked else targets
            proposals, losses = self.rpn_head.learn(pyramid, sizes, padded)
            return losses | self.roi_head.learn(pyramid, proposals, sizes, padded)
        proposals = self.rpn_head.propose(pyramid, sizes)
        return self.roi_head.detect(pyramid, proposals, sizes, originals or sizes, pasted=pasted)


def build_detector(kind: str, backbone: DenseBackbone, num_classes: int = 80) -> Detector:
    """A detector on a backbone of four maps at strides 4 to 32 times the same number, such as one with `out_norms`.

    Raises UserError for another kind, other maps, or no class.
    """
    known: tuple[Kind, ...] = get_args(Kind)
    chosen = next((one for one in known if one == kind), None)
    if chosen is None:
        raise UserError(f"no detector {kind!r}; choose one of {', '.join(known)}")
    if len(backbone.strides) != 4 or num_classes < 1:
        raise UserError(f"a detector needs four maps and a class; got {len(backbone.strides)} and {num_classes}")
    cascade = kind in ("cascade_mask_rcnn", "cascade_rcnn")
    strides = (*backbone.strides, 2 * backbone.strides[-1])
    rules = RPNSettings(smooth_beta=1 / 9, inside_only=True, train_proposals=2000) if cascade else RPNSettings()
    return Detector(
        chosen,
        backbone,
        FPN(backbone.channels, WIDTH, len(strides)),
        RPNHead(WIDTH, strides, rules),
        RoIHead(
            WIDTH,
            backbone.strides,
            num_classes,
            CASCADE if cascade else (Stage(),),
            box_layers=(4, 1) if cascade else (0, 2),
            masked=kind in WITHOUT_MASKS,
        ),
    )


def pad(images: Sequence[Tensor]) -> Tensor:
    """Images (3, H, W) -> (N, 3, H', W'), zeros to the right and below; sides are multiples of 32."""
    sides = (max(side) for side in zip(*(image.shape[-2:] for image in images), strict=True))
    shape = [-(-side // SIZE_DIVISOR) * SIZE_DIVISOR for side in sides]
    return torch.stack([_pad(image, shape) for image in images])


def _padded(target: Target, shape: Sequence[int]) -> Target:
    return target | {"masks": _pad(target["masks"], shape)}


def _pad(values: Tensor, shape: Sequence[int]) -> Tensor:
    """(…, H, W) -> (…, *shape)."""
    return F.pad(values, (0, shape[1] - values.shape[-1], 0, shape[0] - values.shape[-2]))
