"""Whether a mirror makes pictures of one class into those of another: asked of the start that ships, before training.

Arrows to the left and to the right, b and d, digits, traffic signs: what is learned from their mirror images is wrong.
Each picture of a sample and its mirror image are told by the nearest class mean of the start's features, of which
neither it nor a copy of it is a part: frames of one film would tell the picture, and not its mirror image. The start
has never been shown a mirrored picture, so it sees the difference (docs/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import files
from ..catalog.variants import STARTER
from ..data.level_scan import measured_on
from ..data.preprocess import Preprocess
from ..data.source import Source
from ..errors import UserError
from ..models.convnext import Backbone
from ..recipes.everyday import STARTER_MODEL, STARTER_SIDE
from ..weights.backbone import create_model, load_backbone, load_from

MOST, EACH = 400, 20  # pictures of a sample, and of each class
MOST_PIXELS = 150e6  # that are decoded for it: two or three seconds
LEAST_EACH = 2  # one to be told, one to be its class
AT_ONCE = 64
SHOWN = Preprocess.for_size(STARTER_SIDE)
COPY = 0.5  # a picture this much nearer to another than its mirror image is to any is that one's copy
LOSS = 0.75  # of the pictures that are told right, mirrored fewer than this share are
CHANCE = 0.01  # that a difference as large as this has no cause


@dataclass(frozen=True)
class Told:
    """Of each picture in a sample: its class, and the nearest class of it and of its mirror image; all (N,)."""

    classes: tuple[str, ...]
    own: np.ndarray
    plain: np.ndarray
    mirrored: np.ndarray

    def twins(self) -> tuple[str, str] | None:
        """Two classes whose mirror images are each other's, more of them than chance would have it."""
        count = len(self.classes)
        for a in range(count):
            for b in range(a + 1, count):
                other = np.where(self.own == a, b, a)
                mine = [self.own == a, self.own == b]
                before, after = self.plain == other, self.mirrored == other
                if all(one.any() and after[one].mean() >= 0.5 for one in mine):
                    either = mine[0] | mine[1]
                    more, less = int((after & ~before)[either].sum()), int((before & ~after)[either].sum())
                    if by_chance(more, less) * comb(count, 2) < CHANCE:
                        return self.classes[a], self.classes[b]
        return None

    def lost(self) -> tuple[int, int] | None:
        """How many are told right as they are and mirrored, where those are fewer by far."""
        before, after = self.plain == self.own, self.mirrored == self.own
        few = after.sum() < LOSS * before.sum()
        known = by_chance(int((before & ~after).sum()), int((after & ~before).sum())) < CHANCE
        return (int(before.sum()), int(after.sum())) if few and known else None


def by_chance(more: int, less: int) -> float:
    """The chance of at least so many heads among more + less fair coins."""
    tosses = more + less
    return sum(comb(tosses, heads) for heads in range(more, tosses + 1)) / 2**tosses


def what_a_mirror_changes(source: Source) -> str:
    """The reason not to mirror these pictures, for people; "" where there is none."""
    told = tell(source)
    if told is None:
        return ""
    if pair := told.twins():
        return f"mirrored, pictures of {pair[0]!r} look like those of {pair[1]!r}, and the other way round"
    if lost := told.lost():
        whole, (right, few) = len(told.own), lost
        return f"of {whole} pictures {right} look like their own class, mirrored {few}: a mirror makes them into others"
    return ""


def tell(source: Source) -> Told | None:
    """What a sample of labelled pictures looks like; None where fewer than two classes have two pictures in it."""
    seen = measured_on(source)
    source = source if seen is None else source.within(seen.levels)
    pictures = {label: found for label, some in _sample(source).items() if len(found := _opened(source, some)) > 1}
    if len(pictures) < 2:
        return None
    own = torch.tensor([k for k, found in enumerate(pictures.values()) for _ in found])
    images = [image for found in pictures.values() for image in found]
    features = _features([*images, *(one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in images)])
    plain, mirrored = features[: len(images)], features[len(images) :]
    middle, spread = plain.mean(0), plain.std(0) + 1e-6
    plain, mirrored = (plain - middle) / spread, (mirrored - middle) / spread
    mates, copies = _mates(plain, mirrored, own)
    others = mates & ~copies
    judged = others.any(1) & ~(copies | copies.T).tril(-1).any(1)  # the first of copies, for all
    answers = [_nearest(some, plain, own, others)[judged].numpy() for some in (plain, mirrored)]
    return Told(tuple(source.classes[label] for label in pictures), own[judged].numpy(), *answers)


def _sample(source: Source) -> dict[int, list[int]]:
    """Positions of as many pictures of each class, spread over the set."""
    members: dict[int, list[int]] = {}
    for i, label in enumerate(cast(tuple[int, ...], source.labels)):
        members.setdefault(label, []).append(i)
    afford = min(MOST, int(MOST_PIXELS / max(1, source.typical_size) ** 2))
    each = max(LEAST_EACH, min(EACH, afford // len(members)))
    step = max(1, -(-len(members) * LEAST_EACH // max(1, afford)))  # so many classes that some are left out
    chosen = sorted(members)[::step]
    return {label: members[label][:: max(1, len(members[label]) // each)][:each] for label in chosen}


def _opened(source: Source, positions: list[int]) -> list[Image.Image]:
    found = []
    for i in positions:
        try:
            found.append(SHOWN.resize(source.read(i)))
        except UserError:
            continue  # whoever learns from the picture says what is wrong with it
    return found


@torch.no_grad()
def _features(images: list[Image.Image]) -> Tensor:
    """(N, C): the start's, averaged over the picture."""
    with torch.random.fork_rng(devices=[]):
        model = cast(Backbone, create_model(STARTER_MODEL)).eval()
    load_from(files.asset_path(f"{STARTER}.safetensors"), model, load_backbone)
    parts = [torch.stack([SHOWN(image) for image in images[i : i + AT_ONCE]]) for i in range(0, len(images), AT_ONCE)]
    return torch.cat([model.forward_features(part).mean((2, 3)) for part in parts])


def _mates(plain: Tensor, mirrored: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """(N, N) each: whether the second is another picture of the first one's class, and whether it is a copy of it."""
    itself = torch.eye(len(own), dtype=torch.bool)
    mates = (own[:, None] == own) & ~itself
    usual = torch.cdist(mirrored, plain).masked_fill(itself, torch.inf).amin(1)
    return mates, mates & (torch.cdist(plain, plain) < COPY * usual[:, None])


def _nearest(features: Tensor, plain: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """(N,): the class whose mean lies nearest to each picture's features, its own that of its `others`."""
    member = torch.nn.functional.one_hot(own).T.to(plain.dtype)  # (classes, N)
    distances = torch.cdist(features, member @ plain / member.sum(1, keepdim=True))
    rest = others.to(plain.dtype) @ plain / others.sum(1, keepdim=True).clamp(min=1)
    distances[torch.arange(len(own)), own] = (features - rest).norm(dim=1)
    return distances.argmin(1)
