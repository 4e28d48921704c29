"""What a mask file's values mean: class indices or colours -> labels, and back; the files that name classes.

Labels are 0 to K - 1 for K classes, and IGNORED where a pixel counts for nothing. Shapes: H x W pixels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import files
from ..data.images import BadImage, open_image, read_header, read_pixels, readable
from ..data.palette import Colour, spread_colours
from ..data.source import listed
from ..errors import UserError

IGNORED = -1
VOID = {"void", "ignore", "ignored", "unlabelled", "unlabeled", "_void_", "dontcare", "don't care"}  # no classes
UNLABELLED = 255  # the value that most index masks leave out of everything
UNLABELLED_16 = 65535  # likewise where a value has 16 bits
LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif"}
VOC_CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
               "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
               "tvmonitor")  # fmt: skip
VOC_BORDER = (224, 224, 192)  # around each object of PASCAL VOC, where its masks hold colours
VOID_COLOURS = ((0, 0, 0), VOC_BORDER, (255, 255, 255))  # to show it in: the first that is no class's


@dataclass(frozen=True)
class MaskCoding:
    """The classes of a data set and how its masks show them."""

    classes: tuple[str, ...]
    values: tuple[int, ...]  # of each class, in index masks
    colours: tuple[Colour, ...]  # of each class, in colour masks and in pictures
    in_colour: bool = False  # masks hold colours
    ignored: tuple[int, ...] = (UNLABELLED,)  # values of index masks that count for nothing
    ignored_colours: tuple[Colour, ...] = ()
    threshold: int | None = None  # of two classes, where masks are blurred black and white: the second begins here

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MaskCoding:
        """What `to_dict` wrote, also after JSON. Raises UserError when it is something else."""
        try:
            return cls(
                tuple(values["classes"]),
                tuple(values["values"]),
                _colours(values["colours"]),
                bool(values["in_colour"]),
                tuple(values["ignored"]),
                _colours(values["ignored_colours"]),
                None if (soft := values.get("threshold")) is None else int(soft),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            raise UserError("the stored mask coding cannot be used; save the model again") from None

    def labels(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """A mask file's pixels, (H, W) or (H, W, 3) -> (H, W) int16 labels. Raises BadImage, naming `name`, for values
        that are no class."""
        if self.threshold is not None:
            pixels = np.where(one_channel(pixels, name) >= self.threshold, 255, 0)
        if self.in_colour:
            return self._of_colours(pixels, name)
        pixels = one_channel(pixels, name)
        low, high = int(pixels.min(initial=0)), int(pixels.max(initial=0))
        table = _table(self.values, self.ignored, pixels.dtype.itemsize > 1)
        if low < 0 or high >= len(table):
            raise BadImage(f"{name} holds the value {low if low < 0 else high}; {self._known()}")
        labels = table[pixels]
        if (labels == _UNKNOWN).any():
            raise BadImage(f"{name} holds the value {int(pixels[labels == _UNKNOWN][0])}; {self._known()}")
        return labels

    def of_palette(self, pixels: np.ndarray, shown: np.ndarray, name: str) -> np.ndarray:
        """A palette file's (H, W) indices and (H, W, 3) colours -> labels, by colour: its order is the program's that
        wrote it. 255 counts for nothing unless it shows a class. Raises BadImage as `labels`."""
        present, first = np.unique(pixels, return_index=True)
        table = np.full(256, IGNORED, np.int16)
        for value, colour in zip(present.tolist(), shown.reshape(-1, 3)[first], strict=True):
            if value != UNLABELLED or tuple(colour.tolist()) in self.colours:
                table[value] = self._of_colours(colour[None, None], name)[0, 0]
        return table[pixels]

    def image(self, labels: np.ndarray) -> Image.Image:
        """(H, W) labels -> an index mask in the classes' colours, which is their palette (none beyond 8 bits)."""
        void = UNLABELLED if self.in_colour or not self.ignored else self.ignored[0]
        values = np.array(self.values)[np.where(labels == IGNORED, 0, labels)]
        values[labels == IGNORED] = void
        if values.max(initial=0) > 255:
            return Image.fromarray(values.astype(np.uint16))
        palette = np.zeros((256, 3), np.uint8)
        if void < 256:
            palette[void] = self._void_colour()
        for value, colour in zip(self.values, self.colours, strict=True):
            if value < 256:
                palette[value] = colour
        image = Image.fromarray(values.astype(np.uint8)).convert("P")
        image.putpalette(palette.ravel().tolist())
        image.frombytes(values.astype(np.uint8).tobytes())
        return image

    def coloured(self, labels: np.ndarray) -> Image.Image:
        """(H, W) labels -> a colour mask."""
        shown = np.array(self.colours, np.uint8)[np.where(labels == IGNORED, 0, labels)]
        shown[labels == IGNORED] = self._void_colour()
        return Image.fromarray(shown)

    def _void_colour(self) -> Colour:
        return next((c for c in (*self.ignored_colours, *VOID_COLOURS) if c not in self.colours), (0, 0, 0))

    def _known(self) -> str:
        held = ", ".join(map(str, self.ignored)) or "none"
        shown = f"{min(self.values)} to {max(self.values)}" if len(self.values) > 1 else str(self.values[0])
        return (
            f"classes have the values {shown} and {held} count for nothing: list the class in classes.txt (or in "
            "the file that --labels names), or train with --set segmentation.ignore= and the value"
        )

    def _of_colours(self, pixels: np.ndarray, name: str) -> np.ndarray:
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, 2)
        codes = codes_of(pixels)
        every = np.concatenate((_codes(self.colours), _codes(self.ignored_colours)))
        meaning = np.concatenate((np.arange(len(self.colours)), np.full(len(self.ignored_colours), IGNORED)))
        order = every.argsort(kind="stable")
        place = np.searchsorted(every[order], codes).clip(0, len(every) - 1)
        found = order[place]
        wrong = every[found] != codes
        if wrong.any():
            colour = tuple(int(v) for v in pixels[wrong][0])
            raise BadImage(
                f"{name} holds the colour {colour}, which the palette does not have; add it with its class, "
                "or as 'void' to leave it out"
            )
        return meaning[found].astype(np.int16)


_UNKNOWN = -2
_WEIGHTS = np.array((65536, 256, 1))


@cache
def _table(values: tuple[int, ...], ignored: tuple[int, ...], wide: bool) -> np.ndarray:
    ignored = (*ignored, UNLABELLED_16) if wide else ignored
    table = np.full(max((*values, *ignored, 255)) + 1, _UNKNOWN, np.int16)
    table[list(ignored)] = IGNORED
    table[list(values)] = np.arange(len(values))
    return table


def codes_of(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) colours -> (H, W) whole numbers of 24 bits."""
    return pixels.astype(np.int64) @ _WEIGHTS


def _codes(colours: Sequence[Colour]) -> np.ndarray:
    return np.array(colours, np.int64).reshape(-1, 3) @ _WEIGHTS


def one_channel(pixels: np.ndarray, name: str) -> np.ndarray:
    """(H, W) values of an index mask, also of one that was saved as grey RGB. Raises BadImage for colours."""
    if pixels.ndim == 2:
        return pixels
    if not (pixels[..., :1] == pixels).all():
        raise BadImage(
            f"{name} is a colour mask and no palette says what its colours mean; put classes.txt with lines "
            "such as 'road 128 64 128' beside the folders, or pass it by --labels"
        )
    return pixels[..., 0]


def read_mask(path: Path, coding: MaskCoding) -> np.ndarray:
    """(H, W) int16 labels of a mask file. Raises BadImage, naming the file."""
    pixels = read_pixels(path)
    if path.suffix.lower() in LOSSY and not coding.in_colour:
        raise BadImage(f"{readable(path)} is a JPEG file, which blurs the values of classes: export it again as PNG")
    by_colour = coding.in_colour and coding.threshold is None
    if by_colour and pixels.ndim == 2 and read_header(path).mode == "P":  # PASCAL VOC's, CVAT's
        return coding.of_palette(pixels, np.asarray(open_image(path, upright=False)), readable(path))
    return coding.labels(pixels, readable(path))


def binary_coding(names: Sequence[str] = ("background", "foreground"), threshold: int | None = None) -> MaskCoding:
    """Black and white masks, as tools write them for one kind of thing; blurred ones are cut at `threshold`."""
    coding = coding_of(names, ((0, 0, 0), (255, 255, 255)))
    return replace(coding, threshold=threshold)


def voc_coding(ignore: Iterable[int] = (), *, in_colour: bool = False) -> MaskCoding:
    """PASCAL VOC's 20 classes and the background, by their positions or in their colours."""
    colours = ((0, 0, 0), *spread_colours(len(VOC_CLASSES) - 1))
    coding = replace(coding_of(VOC_CLASSES, [None] * len(VOC_CLASSES), ignore), colours=colours)
    return replace(coding, in_colour=True, ignored_colours=(VOC_BORDER,)) if in_colour else coding


def ade20k_coding() -> MaskCoding:
    """SceneParse150: 0 is unlabelled, 1 to 150 are the classes (`reduce_zero_label` in mmsegmentation)."""
    rows = json.loads(files.asset("ade20k_classes.json"))["classes"]
    names, colours = zip(*rows, strict=True)
    return MaskCoding(tuple(names), tuple(range(1, 151)), _colours(colours), ignored=(0, UNLABELLED))


def coding_of(
    names: Sequence[str],
    colours: Sequence[Colour | None],
    ignore: Iterable[int] = (),
    values: Sequence[int] | None = None,
) -> MaskCoding:
    """The coding of a list of classes: by colour where every one has a colour, else by `values` (None: positions).
    Those that are called void, unlabelled or the like count for nothing."""
    held = list(range(len(names))) if values is None else list(values)
    kept = [i for i, name in enumerate(names) if name.lower() not in VOID]
    dropped = [i for i in range(len(names)) if i not in kept]
    palette = spread_colours(len(names))
    shown = tuple(colours[i] or palette[i] for i in kept)
    own = tuple(held[i] for i in kept)
    ignored = tuple(dict.fromkeys((*ignore, *(held[i] for i in dropped), UNLABELLED)))
    return MaskCoding(
        tuple(names[i] for i in kept),
        own,
        shown,
        bool(names) and all(c is not None for c in colours),
        tuple(value for value in ignored if value not in own),
        tuple(c for i in dropped if (c := colours[i]) is not None),
    )


def read_classes(path: Path, ignore: Iterable[int] = ()) -> MaskCoding:
    """A file that names classes, a line each in the order of their values, perhaps with colours.

    Lines such as "road", "road 128 64 128", "128 64 128 road", "road,128,64,128" and CVAT's "road:128,64,128::", or all
    with the value first, as Roboflow's "7, road"; or JSON: a list of names, or an object of names with colours or
    values. Raises UserError when it is none of them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)[:80]
        raise UserError(f"cannot read the classes in {path} ({reason}); check the path") from None
    names, colours, values = _from_json(path, text) if path.suffix == ".json" else _from_lines(text)
    if not names:
        raise UserError(f"{path} names no class; it needs a line for each")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path} names a class twice: {listed(twice)}; give each a name of its own")
    given = [colour for colour in colours if colour is not None]
    if given and len(given) < len(names):
        raise UserError(f"{path} has colours for {len(given)} of {len(names)} classes; give each a colour or none")
    if len(set(given)) < len(given):
        raise UserError(f"{path} gives two classes the same colour; masks could not tell them apart")
    if values is not None and (len(set(values)) < len(values) or max(values) >= UNLABELLED_16):
        raise UserError(f"{path} gives two classes one value, or a value beyond 65534; give each a value of its own")
    return coding_of(names, colours, ignore, values)


_TRAILING = re.compile(r"(?P<name>.+?)[\s,:;]+(?P<r>\d{1,3})[\s,;]+(?P<g>\d{1,3})[\s,;]+(?P<b>\d{1,3})[\s:;,]*")
_LEADING = re.compile(r"(?P<r>\d{1,3})[\s,;]+(?P<g>\d{1,3})[\s,;]+(?P<b>\d{1,3})[\s,:;]+(?P<name>.+?)[\s:;,]*")
_NUMBERED = re.compile(r"(?P<value>\d{1,5})\s*[\s,:;]\s*(?P<name>\D.*)")
_HEADER = re.compile(
    r"(name|class)\w*[\s,;]+r\w*[\s,;]+g\w*[\s,;]+b\w*|(pixel[\s_]*)?(value|id|index)\s*[,;]\s*(class|name|label)\w*",
    re.IGNORECASE,
)
LABELME_VOID = "__ignore__"
_Listed = tuple[list[str], list[Colour | None], list[int] | None]  # names, their colours, their values


def _from_lines(text: str) -> _Listed:
    lines = [line for given in text.splitlines() if (line := given.strip()) and not line.startswith("#")]
    lines = [line for line in lines if not _HEADER.fullmatch(line)]
    found = [_TRAILING.fullmatch(line) or _LEADING.fullmatch(line) for line in lines]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(numbered) and not any(found):
        rows = [row for row in numbered if row]
        return [row["name"] for row in rows], [None] * len(rows), [int(row["value"]) for row in rows]
    if lines[:1] == [LABELME_VOID]:  # its value is -1, so that the next line's is 0
        lines, found = lines[1:], found[1:]
    names: list[str] = []
    colours: list[Colour | None] = []
    for line, row in zip(lines, found, strict=True):
        numbers = (int(row["r"]), int(row["g"]), int(row["b"])) if row else None
        usable = row is not None and numbers is not None and max(numbers) < 256
        names.append(row["name"].strip() if usable and row else line)
        colours.append(numbers if usable else None)
    return names, colours, None


def _from_json(path: Path, text: str) -> _Listed:
    wrong = UserError(f"{path} must be a list of names, or an object of names with colours [r, g, b]; mend it")
    try:
        content = json.loads(text)
    except ValueError:
        raise wrong from None
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content, [None] * len(content), None
    if not isinstance(content, dict) or not content:
        raise wrong
    values = list(content.values())
    if all(isinstance(v, list) and len(v) == 3 and all(isinstance(n, int) and 0 <= n < 256 for n in v) for v in values):
        return list(content), [(v[0], v[1], v[2]) for v in values], None
    if all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values):
        names = sorted(content, key=content.__getitem__)
        return names, [None] * len(values), sorted(values)
    raise wrong


def _colours(values: Iterable[Any]) -> tuple[Colour, ...]:
    return tuple((int(r), int(g), int(b)) for r, g, b in values)
