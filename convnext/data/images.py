"""Opening one picture right: upright, RGB, 16-bit scaled, never blocking, never a traceback.

Transparency is dropped, not blended, and of an animation the first frame is taken: so do torchvision and timm, and
figures are only comparable when the pixels are.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import UserError

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".jpx", ".png", ".apng", ".webp", ".avif", ".gif",
    ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi",
})  # fmt: skip
# Pictures too, but not for Pillow.
CONVERTIBLE = frozenset({".heic", ".heif", ".jxl", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf",
                         ".rw2", ".psd", ".svg", ".dcm", ".exr", ".pdf"})  # fmt: skip
MAX_PIXELS = 200_000_000  # the largest phone cameras'; Pillow holds 4 bytes of each, twice while it converts or turns
MAX_PIXELS_OF = {"WEBP": 80_000_000, "AVIF": 80_000_000, "JPEG2000": 50_000_000}  # decoders with copies of their own
MAX_PIXELS_DEEP = 80_000_000  # of 32-bit grey, whose values are copied while they are scaled
MAX_SIDE = 65_535  # pixels; what JPEG can hold, and where resizing a strip of one pixel still has the memory it needs
LARGE_PIXELS = 25_000_000  # from here on `examined` decodes one after the other: threads at once would fill the memory
BAND_PIXELS = 1 << 22  # of a picture that is worked on in parts, so that what is made of a part stays small
ORIENTATION = 0x0112  # EXIF tag: how the camera was held
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}  # fmt: skip

CUT_SHORT = ("truncat", "broken data stream", "end of file")  # how decoders speak of a file that ends too early

DEPTHS = (8, 12, 16)  # bits: what cameras, scanners and microscopes store in 16
MISSING_BEYOND = 1e37  # floats that measure nothing: how maps mark pixels without a value
OUT_OF_MEMORY = ("can't allocate memory", "out of memory")  # as torch says it of the CPU and of an accelerator

Fault = Literal["missing", "not regular", "empty", "truncated", "bomb", "corrupt"]

_process_wide = threading.Lock()  # Python's warning filters and Pillow's limit; pictures are opened by several threads
_large_one = threading.Lock()


class BadImage(UserError):
    """A picture that cannot be used; `kind` says in a word what is wrong with it."""

    def __init__(self, message: str, kind: Fault = "corrupt") -> None:  # a loader process passes on the message alone
        super().__init__(message)
        self.kind: Fault = kind


@dataclass(frozen=True)
class Header:
    """What a file says of its picture before it is decoded."""

    size: tuple[int, int]  # width, height as stored
    mode: str  # Pillow's name of the pixel format
    animated: bool
    transparent: bool
    orientation: int  # EXIF, 1 = upright
    depth: int | None = None  # bits that the values of 16-bit grey fill, as they are read; None: not decoded, or other


def open_image(
    source: str | Path | bytes | Image.Image, *, name: str | None = None, upright: bool = True
) -> Image.Image:
    """A file, its bytes or an opened picture -> an RGB image, turned upright unless told otherwise.

    Raises BadImage (a UserError), naming the file or `name`, when it is not a regular file, is empty, cut short, not an
    image, of more than MAX_PIXELS (MAX_PIXELS_OF its format) or MAX_SIDE, or takes more memory than there is.
    """
    shown = readable(name) if name is not None else _default_name(source)
    with explained(shown):
        if isinstance(source, Image.Image):
            return to_rgb(source, upright=upright)
        with _opened(source, shown) as image:
            return to_rgb(image, upright=upright, release=True)


@contextlib.contextmanager
def examined(source: str | Path | bytes, *, name: str | None = None) -> Iterator[tuple[Header, Image.Image]]:
    """What a file says of its picture, and the picture as `open_image` gives it, from one reading.

    Raises BadImage as `open_image` does, also for what is done to the picture inside.
    """
    shown = readable(name) if name is not None else _default_name(source)
    with explained(shown), _opened(source, shown) as image:
        large = image.width * image.height > LARGE_PIXELS
        with _large_one if large else contextlib.nullcontext():
            image.load()  # before the header: looking for EXIF, Pillow decodes a PNG, and what fails there fails once
            header = _header(image)
            depth = stored_depth(np.asarray(image)) if image.mode.startswith("I;16") else None
            yield replace(header, depth=depth), to_rgb(image, release=True)


def read_pixels(path: str | Path) -> np.ndarray:
    """A mask's values as they are stored: (H, W) whole numbers, or (H, W, 3) colours; transparency is dropped.

    Raises BadImage as `open_image` does, and for values with fractions.
    """
    shown = readable(path)
    with explained(shown), _opened(path, shown) as image:
        image.load()
        if image.mode in ("RGBA", "CMYK", "YCbCr", "LAB", "HSV"):
            image = image.convert("RGB")
        elif image.mode == "LA":
            image = image.getchannel(0)
        pixels = np.asarray(image)
    if pixels.dtype.kind == "f":
        if not (pixels == np.rint(pixels)).all():
            raise BadImage(f"{shown} holds values with fractions; a mask needs whole numbers")
        pixels = pixels.astype(np.int64)
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def read_header(path: str | Path) -> Header:
    """The header alone, which is quick. Raises BadImage as `open_image` does."""
    shown = readable(path)
    with explained(shown), _opened(path, shown) as image:
        return _header(image)


def to_rgb(image: Image.Image, *, upright: bool = True, release: bool = False) -> Image.Image:
    """Any mode -> RGB, turned as EXIF says; greyscale of more than 8 bits is scaled, where Pillow would clip it.

    `release` says that the image is not needed any more: it is closed as soon as another takes its place, so that never
    more than two copies of a large picture are in memory.
    """
    image.load()
    given = image
    orientation = _orientation(image) if upright else 1
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(to_8_bit(np.asarray(image)))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about byte transparency when this step is left out
    if image.mode != "RGB":
        image = image.convert("RGB")
    if release and image is not given:
        given.close()
        given = image
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
        if release:
            given.close()
    return image


def to_8_bit(values: np.ndarray) -> np.ndarray:
    """Greyscale of more than 8 bits, (H, W) -> uint8.

    Integers are read as 8, 12 or 16 bits, the fewest of these that hold the largest value: what a 12-bit camera stores
    in 16 would be nearly black otherwise. Floats are read as 0..1, else 0..255. What fits neither has no known range
    and is stretched over its own. Values that are not finite, or of a size that only marks what is missing, become
    black and have no part in the range.
    """
    ranges = [_range_of(band) for band in bands(values)]
    low, high = min(one[0] for one in ranges), max(one[1] for one in ranges)
    if low > high:  # no value that counts
        return np.zeros(values.shape, dtype=np.uint8)
    whole = values.dtype.kind != "f"
    if whole and low >= 0 and high < 1 << DEPTHS[-1]:
        return (values >> (stored_depth(values) - 8)).astype(np.uint8)
    if not whole and low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    out = np.empty(values.shape, dtype=np.uint8)
    for band, target in zip(bands(values), bands(out), strict=True):
        known = np.where(_counts(band), band, low).astype(np.float64)
        np.rint((known - low) * 255 / max(high - low, 1e-12), out=target, casting="unsafe")
    return out


def stored_depth(values: np.ndarray) -> int:
    """Of DEPTHS the least that holds the largest of some whole numbers."""
    high = int(values.max(initial=0))
    return next((depth for depth in DEPTHS if high < 1 << depth), DEPTHS[-1])


def bands_of(image: Image.Image) -> Iterator[bytes]:
    """An image's pixels, some rows at a time."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield cropped(image, (0, top, image.width, min(top + rows, image.height))).tobytes()


def bands(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """(H, W) or (H, W, C) as views of some rows each, for work whose memory would be many times the picture's."""
    rows = max(1, BAND_PIXELS // max(1, pixels.shape[1]))
    return (pixels[top : top + rows] for top in range(0, len(pixels), rows))


def _range_of(values: np.ndarray) -> tuple[float, float]:
    known = values[_counts(values)]
    return (float(known.min()), float(known.max())) if known.size else (np.inf, -np.inf)


def _counts(values: np.ndarray) -> np.ndarray:
    """Which values measure something."""
    return np.abs(values) < MISSING_BEYOND if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)


def require_regular(path: str | Path) -> None:
    """BadImage for a pipe, socket or folder (opening a pipe would wait for ever) and for a file that is not there."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadImage(f"{readable(path)} cannot be opened ({reason}); check the path", "missing") from None
    if not stat.S_ISREG(mode):
        raise BadImage(f"{readable(path)} is not a regular file; take it out of the folder", "not regular")


def suffix_of(path: str | Path) -> str:
    """In small letters, with its dot; "" where the name has none."""
    return os.path.splitext(path)[1].lower()


def why_left_out(suffix: str) -> str:
    """Of a file whose suffix is not in IMAGE_SUFFIXES."""
    return f"{suffix} is not read here; convert it to JPEG or PNG" if suffix in CONVERTIBLE else "no image suffix"


def left_out(suffixes: Mapping[str, int], kept: int) -> str:
    """A sentence on files of these suffixes, so many of each, beside `kept` pictures; "" where there are none."""
    if not (lost := sum(suffixes.values())):
        return ""
    ranked = sorted(suffixes, key=lambda suffix: (-suffixes[suffix], suffix))
    named = [f"{suffixes[suffix]:,} {readable(suffix) or 'without a suffix'}" for suffix in ranked[:5]]
    more = f" and {len(ranked) - 5} more kinds" if len(ranked) > 5 else ""
    photos = [suffix for suffix in ranked if suffix in CONVERTIBLE]
    advice = f"; convert {' and '.join(photos)} to JPEG or PNG to use them" if photos else ""
    return f"{lost:,} of {lost + kept:,} files are left out: {', '.join(named)}{more}{advice}"


def read_bytes(path: str | Path, most: int) -> bytes | None:
    """A regular file's bytes; None for one of more than `most`. Raises BadImage where it cannot be read."""
    require_regular(path)
    with explained(readable(path)):
        file = Path(path)
        return file.read_bytes() if file.stat().st_size <= most else None


def readable(name: str | Path) -> str:
    """A file name on one line of valid Unicode, whatever bytes it is made of: fit for messages, tables and JSON."""
    text = str(name)
    return text if text.isprintable() and "\\" not in text else repr(text)[1:-1]


@contextlib.contextmanager
def _opened(source: str | Path | bytes, shown: str) -> Iterator[Image.Image]:
    if isinstance(source, bytes):
        empty = not source
    else:
        require_regular(source)
        empty = Path(source).stat().st_size == 0
    if empty:
        raise BadImage(f"{shown} is empty (0 bytes); replace it or take it out", "empty")
    with _quiet():
        image = Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    with image:
        _require_size(image, shown)
        yield image


def _require_size(image: Image.Image, shown: str) -> None:
    most = MAX_PIXELS_DEEP if image.mode in ("I", "F") else MAX_PIXELS_OF.get(image.format or "", MAX_PIXELS)
    if image.width * image.height > most or max(image.size) > MAX_SIDE:
        claims = f"{shown} claims {image.width:,} x {image.height:,} pixels, and at most {most:,} of them are read"
        raise BadImage(f"{claims}, at most {MAX_SIDE:,} a side; shrink it or take it out", "bomb")


@contextlib.contextmanager
def within_memory(shown: str) -> Iterator[None]:
    """Memory that runs out inside, Pillow's, NumPy's or torch's, as BadImage that names the picture `shown`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            raise BadImage(f"{shown} takes more memory than there is; shrink it or take it out", "bomb") from None
        raise


@contextlib.contextmanager
def explained(shown: str) -> Iterator[None]:
    """Whatever goes wrong inside with the picture `shown`, as BadImage: for opening it, and for making of it what a
    model is shown."""
    try:
        with within_memory(shown):
            yield
    except UserError:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"{shown} is not an image that can be read; replace it or take it out") from None
    except Exception as error:  # decoders fail in every way on damaged bytes: struct.error, KeyError, SyntaxError, …
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        cut = isinstance(error, EOFError) or any(word in reason.lower() for word in CUT_SHORT)
        kind: Fault = "truncated" if cut else "corrupt"
        raise BadImage(f"{shown} cannot be read ({reason}); replace it or take it out", kind) from None


def cropped(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """`image.crop(box)` (left, top, right, bottom), of large pictures too, about which Pillow would complain here."""
    if image.width * image.height <= LARGE_PIXELS:
        return image.crop(box)
    with _quiet():
        return image.crop(box)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's remarks on odd metadata are not for our users: what matters is raised or reported. Its own limit on
    pixels is lifted meanwhile, since ours is looked at before anything is decoded."""
    with _process_wide, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _header(image: Image.Image) -> Header:
    with _quiet():
        animated = bool(getattr(image, "is_animated", False))
    transparent = "A" in image.getbands() or "transparency" in image.info
    return Header(image.size, image.mode, animated, transparent, _orientation(image))


def _orientation(image: Image.Image) -> int:
    try:
        with _quiet():
            return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged metadata is no reason to lose a sound picture
        return 1


def _default_name(source: str | Path | bytes | Image.Image) -> str:
    if isinstance(source, bytes):
        return "the image"
    path = getattr(source, "filename", "") if isinstance(source, Image.Image) else source
    return readable(path) if path else "the image"
