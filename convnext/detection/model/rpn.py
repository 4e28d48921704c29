"""Region proposals: anchors at every position of every level, scored and moved (Ren et al., "Faster R-CNN", 2015).

Shapes: N images, L levels, A anchors of an image over all levels, G ground-truth boxes of an image. Definitions are
mmdetection's; parameter names too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.layers import at_least_fp32
from .boxes import Coder, Matcher, Sampler, Size, batched_nms

SCALE = 8  # anchor sides in units of the level's stride
RATIOS = (0.5, 1.0, 2.0)  # heights over widths
SIZE_DIVISOR = 32  # images are padded to multiples of it; anchors count as valid up to there

# "boxes" (G, 4), "labels" (G,) from 0; where there are any, "masks" (G, H, W), and "ignored" (I, 4), the boxes of
# objects that are neither to be found nor background
Target = dict[str, Tensor]


@dataclass(frozen=True)
class RPNSettings:
    """What differs between the released detectors, and the tests' thresholds (official code:
    object_detection/configs/convnext/)."""

    smooth_beta: float = 0.0  # of the smooth L1 loss; 0 is L1
    inside_only: bool = False  # learn only from anchors that lie within the image
    train_proposals: int = 1000  # an image
    train_candidates: int = 2000  # a level, before suppression
    test_proposals: int = 1000
    test_candidates: int = 1000
    nms: float = 0.7


class RPNHead(nn.Module):
    """A 3x3 convolution shared by all levels, then an objectness logit and four deltas for each anchor."""

    def __init__(self, width: int, strides: Sequence[int], settings: RPNSettings) -> None:
        super().__init__()
        self.strides, self.settings = tuple(strides), settings
        self.coder = Coder()
        self.match = Matcher(positive=0.7, negative=0.3, least=0.3, allow_low_quality_matches=True)
        self.sample = Sampler(256, 0.5)
        self.rpn_conv = nn.Conv2d(width, width, 3, padding=1)
        self.rpn_cls = nn.Conv2d(width, len(RATIOS), 1)
        self.rpn_reg = nn.Conv2d(width, len(RATIOS) * 4, 1)
        for conv in (self.rpn_conv, self.rpn_cls, self.rpn_reg):
            nn.init.normal_(conv.weight, std=0.01)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """L maps -> for each level: (N, A_l) objectness logits, (N, A_l, 4) deltas, (A_l, 4) anchors."""
        hidden = [F.relu(self.rpn_conv(x)) for x in pyramid]
        logits = [at_least_fp32(self.rpn_cls(h)).permute(0, 2, 3, 1).flatten(1) for h in hidden]
        deltas = [at_least_fp32(self.rpn_reg(h)).permute(0, 2, 3, 1).reshape(len(h), -1, 4) for h in hidden]
        anchors = [
            anchors_of((h.shape[-2], h.shape[-1]), stride, h.device)
            for h, stride in zip(hidden, self.strides, strict=True)
        ]
        return logits, deltas, anchors

    def propose(self, pyramid: Sequence[Tensor], sizes: Sequence[Size]) -> list[Tensor]:
        """L maps, image sizes -> (R, 4) proposals for each image, the likeliest first."""
        logits, deltas, anchors = self(pyramid)
        return self._proposals(logits, deltas, anchors, sizes)

    def learn(
        self, pyramid: Sequence[Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """As `propose`, with the losses of the proposals."""
        logits, deltas, anchors = self(pyramid)
        losses = self._losses(torch.cat(logits, 1), torch.cat(deltas, 1), anchors, pyramid, sizes, targets)
        return self._proposals(logits, deltas, anchors, sizes), losses

    @torch.no_grad()
    def _proposals(
        self, logits: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], sizes: Sequence[Size]
    ) -> list[Tensor]:
        rules = self.settings
        candidates = rules.train_candidates if self.training else rules.test_candidates
        most = rules.train_proposals if self.training else rules.test_proposals
        best = [level.sigmoid().topk(min(candidates, level.shape[1])) for level in logits]
        group = torch.cat([torch.full_like(found.indices[0], i) for i, found in enumerate(best)])
        found = []
        for n, size in enumerate(sizes):
            rows = [b.indices[n] for b in best]
            scores = torch.cat([b.values[n] for b in best])
            moved = self.coder.decode(
                torch.cat([a[r] for a, r in zip(anchors, rows, strict=True)]),
                torch.cat([d[n, r] for d, r in zip(deltas, rows, strict=True)]),
                size,
            )
            solid = (moved[:, 2:] > moved[:, :2]).all(1).nonzero().flatten()
            kept = solid[batched_nms(moved[solid], scores[solid], group[solid], rules.nms)[:most]]
            found.append(moved[kept])
        return found

    def _losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: list[Tensor],
        pyramid: Sequence[Tensor],
        sizes: Sequence[Size],
        targets: Sequence[Target],
    ) -> dict[str, Tensor]:
        """(N, A), (N, A, 4) -> binary cross-entropy and (smooth) L1 over the sampled anchors of all images."""
        every = torch.cat(anchors)
        classification, regression, count = logits.sum() * 0, deltas.sum() * 0, 0
        for n, (size, target) in enumerate(zip(sizes, targets, strict=True)):
            usable = self._usable(every, pyramid, size)
            match = self.match(target["boxes"], every[usable], target.get("ignored"))
            positive, negative = self.sample(match)
            count += max(len(positive), 1) + max(len(negative), 1)  # an empty kind counts as one (mmdetection)
            chosen = usable[torch.cat((positive, negative))]
            truth = torch.zeros(len(chosen), device=logits.device)
            truth[: len(positive)] = 1
            classification = classification + F.binary_cross_entropy_with_logits(
                logits[n, chosen], truth, reduction="sum"
            )
            rows = usable[positive]
            goal = self.coder.encode(every[rows], target["boxes"][match[positive] - 1])
            regression = regression + F.smooth_l1_loss(
                deltas[n, rows], goal, reduction="sum", beta=self.settings.smooth_beta
            )
        return {"rpn_cls": classification / max(count, 1), "rpn_box": regression / max(count, 1)}

    def _usable(self, anchors: Tensor, pyramid: Sequence[Tensor], size: Size) -> Tensor:
        """Indices of the anchors to learn from: at positions of the padded image, perhaps wholly within the image."""
        height, width = (-(-side // SIZE_DIVISOR) * SIZE_DIVISOR for side in size)
        flags = []
        for features, stride in zip(pyramid, self.strides, strict=True):
            row = torch.arange(features.shape[-2], device=anchors.device) < -(-height // stride)
            column = torch.arange(features.shape[-1], device=anchors.device) < -(-width // stride)
            flags.append((row[:, None] & column)[..., None].expand(-1, -1, len(RATIOS)).flatten())
        usable = torch.cat(flags)
        if self.settings.inside_only:
            limit = anchors.new_tensor((size[1], size[0]))
            usable = usable & (anchors[:, :2] >= 0).all(1) & (anchors[:, 2:] < limit).all(1)
        return usable.nonzero().flatten()


def anchors_of(shape: Size, stride: int, device: torch.device) -> Tensor:
    """Anchors (H x W x 3, 4) around the corner of every cell of a map, row by row; their area is (8 x stride)^2."""
    root = torch.tensor(RATIOS).sqrt()
    half = torch.stack((1 / root, root), 1) * (SCALE * stride / 2)
    base = torch.cat((-half, half), 1).to(device)
    y = torch.arange(shape[0], device=device) * stride
    x = torch.arange(shape[1], device=device) * stride
    corner = torch.stack((x.expand(shape), y[:, None].expand(shape)), -1).float()
    return (corner.repeat(1, 1, 2)[:, :, None] + base).reshape(-1, 4)
