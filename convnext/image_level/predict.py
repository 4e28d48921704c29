"""A trained model of whole pictures at work: views of an image, and answers for files as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from ..data.images import explained, open_image, readable
from ..data.preprocess import Preprocess, views
from ..errors import UserError
from ..training import runtime
from ..training.runtime import Runtime
from ..training.slice import EvaluateOptions, PredictOptions
from ..weights.info import info_of

CPU_BATCH, DEVICE_BATCH = 8, 64  # pictures that are answered at once: more are no faster on a CPU, and answers wait
NO_ANSWER = "{} gives answers that are no numbers, so its weights are damaged; fetch or save it again"
A = TypeVar("A")


@dataclass(frozen=True)
class Views:
    """Several views of one image, (V, 3, S, S); a class so that loader processes can be sent it."""

    preprocess: Preprocess
    flip: bool
    crops: int

    def __call__(self, image: Image.Image) -> Tensor:
        return views(image, self.preprocess, flip=self.flip, crops=self.crops)


def views_of(preprocess: Preprocess, options: EvaluateOptions) -> tuple[Views | None, int]:
    """What an evaluation's options ask to be averaged, None where it is the one view; and how many views that is."""
    several = Views(preprocess, options.flip, options.crops) if options.flip or options.crops > 1 else None
    return several, options.crops * (2 if options.flip else 1)


def require_pictures(model: nn.Module, checkpoint: object) -> None:
    """UserError for a model of other channels than pictures have."""
    if (channels := getattr(model, "in_chans", 3)) != 3:
        raise UserError(f"{checkpoint} takes images of {channels} channels; pictures have 3")


def answered(
    model: nn.Module,
    paths: Sequence[str],
    options: PredictOptions,
    answer: Callable[[Sequence[str], Tensor], Sequence[A]],
    unreadable: Callable[[str, str], A],
) -> Iterator[A]:
    """An answer for each file, so many at once as the options say (None: what suits the device).

    `answer` makes them of paths and of the model's (N, K) outputs, float32. Raises UserError for outputs that are no
    numbers.
    """
    preprocess = Preprocess.from_dict(info_of(model).preprocess)
    with runtime.start_judging(model, options.precision, options.say) as run:
        model = model.to(run.device).eval()
        size = options.batch_size or (CPU_BATCH if run.device.type == "cpu" else DEVICE_BATCH)
        for i in range(0, len(paths), size):
            tensors, results = _read(paths[i : i + size], preprocess, unreadable)
            if tensors:
                outputs = _outputs(model, list(tensors.values()), run)
                results |= dict(zip(tensors, answer(list(tensors), outputs), strict=True))
            yield from (results[path] for path in paths[i : i + size])


def _read(
    paths: Sequence[str], preprocess: Preprocess, unreadable: Callable[[str, str], A]
) -> tuple[dict[str, Tensor], dict[str, A]]:
    """What the model is shown of the files that can be read, and answers for the others."""
    tensors: dict[str, Tensor] = {}
    results: dict[str, A] = {}
    for path in paths:
        try:
            with explained(readable(path)):
                tensors[path] = preprocess(open_image(path, name=path, levels=preprocess.levels))
        except UserError as error:
            results[path] = unreadable(path, str(error))
    return tensors, results


def _outputs(model: nn.Module, tensors: Sequence[Tensor], run: Runtime) -> Tensor:
    batch = torch.stack(list(tensors)).to(run.device, memory_format=torch.channels_last)
    with torch.inference_mode(), run.autocast():
        outputs: Tensor = model(batch).float().cpu()
    if not bool(outputs.isfinite().all()):
        raise UserError(NO_ANSWER.format(info_of(model).source))
    return outputs
