"""Opening one picture right: upright, RGB, 16-bit scaled, never blocking, never a traceback.

Transparency is dropped, not blended, and of an animation the first frame is taken: so do torchvision and timm, and
figures are only comparable when the pixels are.
"""

from __future__ import annotations

import contextlib
import stat
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"})
MAX_PIXELS = 89_478_485  # a quarter of a GiB in RGB, where Pillow begins to suspect an attack
ORIENTATION = 0x0112  # EXIF tag: how the camera was held
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}  # fmt: skip

CUT_SHORT = ("truncat", "broken data stream", "end of file")  # how decoders speak of a file that ends too early

Fault = Literal["missing", "not regular", "empty", "truncated", "bomb", "corrupt"]

_warning_filters = threading.Lock()  # they belong to the process, and pictures are opened by several threads


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


def open_image(
    source: str | Path | bytes | Image.Image, *, name: str | None = None, upright: bool = True
) -> Image.Image:
    """A file, its bytes or an opened picture -> an RGB image, turned upright unless told otherwise.

    Raises BadImage (a UserError), naming the file or `name`, when it is not a regular file, is empty, cut short, not an
    image, or larger than MAX_PIXELS.
    """
    shown = readable(name) if name is not None else _default_name(source)
    with _explained(shown):
        if isinstance(source, Image.Image):
            return to_rgb(source, upright=upright)
        with _opened(source, shown) as image:
            return to_rgb(image, upright=upright)


def read_pixels(path: str | Path) -> np.ndarray:
    """A mask's values as they are stored: (H, W) whole numbers, or (H, W, 3) colours; transparency is dropped.

    Raises BadImage as `open_image` does, and for values with fractions.
    """
    shown = readable(path)
    with _explained(shown), _opened(path, shown) as image:
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
    with _explained(shown), _opened(path, shown) as image:
        animated = bool(getattr(image, "is_animated", False))
        transparent = "A" in image.getbands() or "transparency" in image.info
        return Header(image.size, image.mode, animated, transparent, _orientation(image))


def to_rgb(image: Image.Image, *, upright: bool = True) -> Image.Image:
    """Any mode -> RGB, turned as EXIF says; greyscale of more than 8 bits is scaled, where Pillow would clip it."""
    image.load()
    orientation = _orientation(image) if upright else 1
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(to_8_bit(np.asarray(image)))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about byte transparency when this step is left out
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    return image if image.mode == "RGB" else image.convert("RGB")


def to_8_bit(values: np.ndarray) -> np.ndarray:
    """Greyscale of more than 8 bits, (H, W) -> uint8.

    Integers are read as 16-bit, however dark; floats as 0..1, else 0..255. What fits neither has no known range and is
    stretched over its own. Values that are not finite become black.
    """
    clean = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(clean.min()), float(clean.max())
    if values.dtype.kind != "f" and low >= 0 and high <= 65535:
        return (clean / 256).astype(np.uint8)
    if values.dtype.kind == "f" and low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    return np.rint((clean - low) * 255 / max(high - low, 1e-12)).astype(np.uint8)


def require_regular(path: str | Path) -> None:
    """BadImage for a pipe, socket or folder (opening a pipe would wait for ever) and for a file that is not there."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadImage(f"{readable(path)} cannot be opened ({reason}); check the path", "missing") from None
    if not stat.S_ISREG(mode):
        raise BadImage(f"{readable(path)} is not a regular file; take it out of the folder", "not regular")


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
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        yield image


@contextlib.contextmanager
def _explained(shown: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise BadImage(f"{shown} claims more than {MAX_PIXELS:,} pixels; shrink it or take it out", "bomb") from None
    except UnidentifiedImageError:
        raise BadImage(f"{shown} is not an image that can be read; replace it or take it out") from None
    except Exception as error:  # decoders fail in every way on damaged bytes: struct.error, KeyError, SyntaxError, …
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        cut = isinstance(error, EOFError) or any(word in reason.lower() for word in CUT_SHORT)
        kind: Fault = "truncated" if cut else "corrupt"
        raise BadImage(f"{shown} cannot be read ({reason}); replace it or take it out", kind) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's remarks on odd metadata and large pictures are not for our users: what matters is raised or reported."""
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
