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
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from ..errors import UserError
from ..system import machine
from .levels import BAND_PIXELS, Levels, is_deep, to_8_bit

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".jpx", ".png", ".apng", ".webp", ".avif", ".gif",
    ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi",
})  # fmt: skip
# Pictures too, but not for Pillow.
CONVERTIBLE = frozenset({".heic", ".heif", ".jxl", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf",
                         ".rw2", ".psd", ".svg", ".dcm", ".exr", ".pdf"})  # fmt: skip
ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"})
MAX_PIXELS = 200_000_000  # the largest phone cameras'; Pillow holds 4 bytes of each, twice while it converts or turns
MAX_PIXELS_OF = {"WEBP": 80_000_000, "AVIF": 80_000_000, "JPEG2000": 50_000_000}  # decoders with copies of their own
MAX_PIXELS_DEEP = 80_000_000  # of 32-bit grey, whose values are copied while they are scaled
MAX_SIDE = 65_535  # pixels; what JPEG can hold, and where resizing a strip of one pixel still has the memory it needs
LARGE_PIXELS = 25_000_000  # from here on threads decode one after the other: at once they would fill the memory
ORIENTATION = 0x0112  # EXIF tag: how the camera was held
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}  # fmt: skip

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HOLDS_EXIF = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # chunks of a PNG

CUT_SHORT = ("truncat", "broken data stream", "end of file")  # how decoders speak of a file that ends too early
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


def open_image(
    source: str | Path | bytes | Image.Image,
    *,
    name: str | None = None,
    upright: bool = True,
    levels: Levels | None = None,
) -> Image.Image:
    """A file, its bytes or an opened picture -> an RGB image, turned upright unless told otherwise.

    `levels` are black and white of greyscale of more than 8 bits; None: as `to_8_bit` reads its type.

    Raises BadImage (a UserError), naming the file or `name`, when it is not a regular file, is empty, cut short, not an
    image, of more than MAX_PIXELS (MAX_PIXELS_OF its format) or MAX_SIDE, or takes more memory than there is.
    """
    shown = readable(name) if name is not None else _default_name(source)
    with explained(shown):
        if isinstance(source, Image.Image):
            return to_rgb(source, upright=upright, levels=levels)
        with _opened(source, shown) as image:
            return to_rgb(image, upright=upright, levels=levels, release=True)


@contextlib.contextmanager
def examined(
    source: str | Path | bytes, *, name: str | None = None, levels: Levels | None = None
) -> Iterator[tuple[Header, Image.Image]]:
    """What a file says of its picture, and the picture as `open_image` gives it, from one reading.

    Raises BadImage as `open_image` does, also for what is done to the picture inside.
    """
    shown = readable(name) if name is not None else _default_name(source)
    with explained(shown), _opened(source, shown) as image, _one_by_one(image):
        image.load()  # before the header: looking for EXIF, Pillow decodes a PNG, and what fails there fails once
        yield _header(image), to_rgb(image, levels=levels, release=True)


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


def deep_values(path: str | Path, most: int) -> np.ndarray:
    """Greyscale of more than 8 bits as it is stored, (H, W); of a large picture about `most` pixels, evenly spaced.

    Raises BadImage as `open_image` does.
    """
    shown = readable(path)
    with explained(shown), _opened(path, shown) as image, _one_by_one(image):
        image.load()
        values, step = np.asarray(image), max(1, round((image.width * image.height / most) ** 0.5))
        return values if step == 1 else values[::step, ::step].copy()


def read_header(path: str | Path) -> Header:
    """The header alone, which is quick. Raises BadImage as `open_image` does."""
    shown = readable(path)
    with explained(shown), _opened(path, shown) as image:
        return _header(image)


def to_rgb(
    image: Image.Image, *, upright: bool = True, levels: Levels | None = None, release: bool = False
) -> Image.Image:
    """Any mode -> RGB, turned as EXIF says; greyscale of more than 8 bits is scaled, where Pillow would clip it.

    `release` says that the image is not needed any more: it is closed as soon as another takes its place, so that never
    more than two copies of a large picture are in memory.
    """
    image.load()
    given = image
    orientation = _orientation(image) if upright else 1
    if is_deep(image.mode):
        image = Image.fromarray(to_8_bit(np.asarray(image), levels))
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


def bands_of(image: Image.Image) -> Iterator[bytes]:
    """An image's pixels, some rows at a time."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield cropped(image, (0, top, image.width, min(top + rows, image.height))).tobytes()


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


def _one_by_one(image: Image.Image) -> contextlib.AbstractContextManager[object]:
    """Held while a large picture is decoded: several at once would fill the memory."""
    return _large_one if image.width * image.height > LARGE_PIXELS else contextlib.nullcontext()


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
        if machine.out_of_memory(error):
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
        advice = "unpack it first" if suffix_of(shown) in ARCHIVES else "replace it or take it out"
        raise BadImage(f"{shown} is not an image that can be read; {advice}") from None
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
            return int(_exif(image).get(ORIENTATION, 1))
    except Exception:  # damaged metadata is no reason to lose a sound picture
        return 1


def _exif(image: Image.Image) -> Image.Exif:
    """As Pillow reads it, but that a PNG is decoded for it only where something lies behind its pixels."""
    if isinstance(image, PngImageFile) and image.tile and not image.is_animated and "exif" not in image.info:
        assert image.fp is not None
        if not _has_text_behind(image.fp):
            return Image.Image.getexif(image)
    return image.getexif()


def _has_text_behind(png: IO[bytes]) -> bool:
    """Whether a PNG has chunks behind its pixels that can hold EXIF; the file stays where it is."""
    place = png.tell()
    try:
        png.seek(len(PNG_SIGNATURE))
        pixels = False
        while len(head := png.read(8)) == 8:
            if pixels and head[4:] in HOLDS_EXIF:
                return True
            pixels |= head[4:] == b"IDAT"
            png.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)  # its content and its checksum
        return False
    finally:
        png.seek(place)


def _default_name(source: str | Path | bytes | Image.Image) -> str:
    if isinstance(source, bytes):
        return "the image"
    path = getattr(source, "filename", "") if isinstance(source, Image.Image) else source
    return readable(path) if path else "the image"
