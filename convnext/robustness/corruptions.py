"""The corruptions of ImageNet-C: fifteen that a model is judged by and four more for choosing between models.

Defined by Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(2019). The constants are the authors' (make_imagenet_c.py), except where the authors' code works at 224 pixels only:
there they are those of its port to any size, `imagecorruptions` 1.1.2, which is also what the tests compare with.
Values are cut to whole grey levels, not rounded, as theirs are. The published ImageNet-C files were made at 224 pixels
with other random numbers and stored as JPEG, and their `elastic_transform` also shears: for figures to set beside
published ones, use those files.

Shapes: an image is uint8 (H, W, 3), H and W at least 32; inside, float (H, W, 3) in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.images import IMAGE_SUFFIXES, open_image, readable
from ..errors import UserError
from . import filters

Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]  # image, severity 1..5, randomness -> image

MIN_SIDE = 32
SEVERITIES = (1, 2, 3, 4, 5)

# One entry for each severity.
GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation
SHOT_NOISE = (60, 25, 12, 5, 3)  # photons that make white
IMPULSE_NOISE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of values replaced
SPECKLE_NOISE = (0.15, 0.2, 0.35, 0.45, 0.6)  # standard deviation, as a share of the value
DEFOCUS_BLUR = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius of the disc, sigma of its rim
GLASS_BLUR = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, farthest shift, rounds
MOTION_BLUR = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius, sigma
ZOOM_BLUR = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # factors from 1: end, step
GAUSSIAN_BLUR = (1, 2, 3, 4, 6)  # sigma
SNOW = (  # mean, deviation of noise; size of flakes; least value shown; radius, sigma of fall; share of picture
    (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # share of the picture, of the frost
FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # thickness, decay of its detail
SPATTER = (  # mean, deviation and sigma of the liquid, least value shown, strength (water) or sigma (mud)
    (0.65, 0.3, 4, 0.69, 0.6),
    (0.65, 0.3, 3, 0.68, 0.6),
    (0.65, 0.3, 2, 0.68, 0.5),
    (0.65, 0.3, 1, 0.65, 1.5),
    (0.67, 0.4, 1, 0.65, 1.5),
)
MUD_FROM = 4  # severity
WATER_RGB, MUD_RGB = np.array([175, 238, 238]) / 255, np.array([63, 42, 20]) / 255
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV
SATURATE = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))  # saturation of HSV: times, plus
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # times the distance from the mean
ELASTIC_TRANSFORM = (12.5, 16.25, 21.25, 25.0, 30.0)  # strength; the port's numbers
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # side of the small picture
JPEG_COMPRESSION = (25, 18, 15, 10, 7)  # quality
GREY_OF_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601


def corrupt(image: np.ndarray, name: str, severity: int, *, seed: int, frost: str | Path | None = None) -> np.ndarray:
    """One corruption of a uint8 (H, W, 3) image; the same `seed` gives the same picture. The image is left alone.

    `severity` goes from 1 (mild) to 5; `frost` is a folder of pictures of frost, of which one is laid over the image.
    Raises UserError for an unknown name, another severity, a negative seed, an image of another kind or frost without
    pictures.
    """
    if name not in CORRUPTIONS:
        near = get_close_matches(name, CORRUPTIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(CORRUPTIONS)}"
        raise UserError(f"corruption {name!r} is not known; {hint}")
    if severity not in SEVERITIES:
        raise UserError(f"severity {severity!r} of corruption {name!r} does not exist; choose a whole number 1 to 5")
    if seed < 0:
        raise UserError(f"seed {seed} is negative; choose 0 or more")
    _require_image(image)
    chosen = partial(frost_over, folder=frost) if name == "frost" else CORRUPTIONS[name]
    return chosen(image, int(severity), np.random.default_rng(seed))


def _require_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray):
        raise UserError(f"the image to corrupt is a {type(image).__name__}; hand in a uint8 array (H, W, 3)")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        shape = tuple(image.shape)
        raise UserError(f"the image to corrupt is {image.dtype} of shape {shape}; hand in a uint8 array (H, W, 3)")
    if min(image.shape[:2]) < MIN_SIDE:
        height, width = image.shape[:2]
        raise UserError(f"the image to corrupt is {width} x {height}; enlarge it to at least {MIN_SIDE} pixels a side")


def _unit(image: np.ndarray) -> np.ndarray:
    return image / 255.0


def _bytes(x: np.ndarray) -> np.ndarray:
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of the same strength everywhere, as of a sensor in low light."""
    return _bytes(_unit(image) + rng.normal(0.0, GAUSSIAN_NOISE[severity - 1], image.shape))


def shot_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Light arriving as few photons: Poisson noise."""
    photons = SHOT_NOISE[severity - 1]
    return _bytes(rng.poisson(_unit(image) * photons) / photons)


def impulse_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Salt and pepper: some values become 0 or 255, each with the same chance, channel by channel."""
    hit = rng.random(image.shape) <= IMPULSE_NOISE[severity - 1]
    salt = rng.random(image.shape) <= 0.5
    return np.where(hit, np.where(salt, 255, 0), image).astype(np.uint8)


def speckle_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Noise in proportion to the brightness."""
    x = _unit(image)
    return _bytes(x + x * rng.normal(0.0, SPECKLE_NOISE[severity - 1], image.shape))


def defocus_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A lens out of focus: every point becomes a disc."""
    return _bytes(filters.convolve(_unit(image), filters.disk(*DEFOCUS_BLUR[severity - 1])))


def glass_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Frosted glass: pixels take a near pixel's colour, between two Gaussian blurs.

    The paper says that pixels are exchanged. The authors' code copies instead (the second half of its exchange reads
    what the first has just written), and so are the published pictures made; hence here too.
    """
    sigma, reach, rounds = GLASS_BLUR[severity - 1]
    height, width = image.shape[:2]
    blurred = _bytes(filters.gaussian(_unit(image), sigma))
    source = list(range(height * width))  # which pixel's colour each pixel shows
    rows, columns = range(height - reach, reach, -1), range(width - reach, reach, -1)
    for _ in range(rounds):
        shifts = rng.integers(-reach, reach, (len(rows), len(columns), 2))  # right, down
        steps = (shifts[..., 0] + width * shifts[..., 1]).tolist()
        for row, steps_of_row in zip(rows, steps, strict=True):
            for column, step in zip(columns, steps_of_row, strict=True):
                here = row * width + column
                source[here] = source[here + step]
    shuffled = blurred.reshape(-1, 3)[source].reshape(image.shape)
    return _bytes(filters.gaussian(_unit(shuffled), sigma))


def motion_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A camera moving fast, within 45 degrees of level."""
    blurred = filters.streak(image, *MOTION_BLUR[severity - 1], degrees=rng.uniform(-45, 45))
    return np.clip(blurred, 0, 255).astype(np.uint8)


def zoom_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A camera moving towards the scene: the mean of the image and its enlargements."""
    height, width = image.shape[:2]
    factors = np.arange(1, *ZOOM_BLUR[severity - 1])
    x = _unit(image).astype(np.float32)
    layers = (filters.magnify(x, factor)[:height, :width] for factor in factors.tolist())
    return _bytes(sum(layers, start=x) / (len(factors) + 1))


def gaussian_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur."""
    return _bytes(filters.gaussian(_unit(image), GAUSSIAN_BLUR[severity - 1]))


def snow(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Flakes, streaked by their fall, and the same turned upside down, over a picture made paler."""
    mean, deviation, flake, least, radius, sigma, share = SNOW[severity - 1]
    height, width = image.shape[:2]
    flakes = filters.magnify(rng.normal(mean, deviation, (height, width)), flake)
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1)
    fallen = filters.streak(flakes, int(radius), sigma, degrees=rng.uniform(-135, -45))[:height, :width]
    layer = (np.rint(fallen * 255) / 255)[..., None]
    x = _unit(image)
    pale = np.maximum(x, (x @ GREY_OF_RGB)[..., None] * 1.5 + 0.5)
    return _bytes(share * x + (1 - share) * pale + layer + np.rot90(layer, k=2))


def frost_over(
    image: np.ndarray, severity: int, rng: np.random.Generator, folder: str | Path | None = None
) -> np.ndarray:
    """A random part of a random picture of frost, laid over the image; `folder` holds such pictures.

    A picture of frost is enlarged by a tenth, and first to the size of the image where it is smaller. Raises UserError
    when there is no folder, no picture in it, or one that cannot be read.
    """
    paths = _frost_pictures(folder)
    ice = np.asarray(open_image(paths[int(rng.integers(0, len(paths)))]))
    height, width = image.shape[:2]
    scale = 1.1 * max(1.0, height / ice.shape[0], width / ice.shape[1])
    size = (int(np.ceil(ice.shape[0] * scale)), int(np.ceil(ice.shape[1] * scale)))
    corner = (int(rng.integers(0, size[0] - height)), int(rng.integers(0, size[1] - width)))
    part = filters.enlarged_part(ice, size, corner, (height, width))
    of_image, of_frost = FROST[severity - 1]
    return np.clip(of_image * image + of_frost * part, 0, 255).astype(np.uint8)


def _frost_pictures(folder: str | Path | None) -> list[Path]:
    if folder is None:
        raise UserError("corruption 'frost' lays pictures of frost over the image; name a folder that holds some")
    if not Path(folder).is_dir():
        raise UserError(f"the frost folder {readable(folder)} is not a folder; name one that holds pictures of frost")
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise UserError(f"the frost folder {readable(folder)} holds no images; put pictures of frost into it")
    return paths


def fog(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A height map of the diamond-square kind, added as grey; the brightest value of the image stays as it was."""
    thickness, decay = FOG[severity - 1]
    height, width = image.shape[:2]
    x = _unit(image)
    side = 1 << (max(height, width) - 1).bit_length()  # the power of two that covers the image
    haze = thickness * filters.height_map(side, decay, rng)[:height, :width, None]
    return _bytes((x + haze) * x.max() / (x.max() + thickness))


def spatter(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Drops on the lens: water at severities 1 to 3, mud at 4 and 5."""
    mean, deviation, sigma, least, finish = SPATTER[severity - 1]
    liquid = filters.gaussian(rng.normal(mean, deviation, image.shape[:2]), sigma)
    x = _unit(image)
    if severity >= MUD_FROM:
        cover = filters.gaussian((liquid > least).astype(float), finish)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return _bytes(x * (1 - cover) + cover * MUD_RGB)
    wet = _bytes(np.where(liquid < least, 0, liquid))
    shine = wet * _relief(wet)
    return _bytes(x + finish * (shine / max(shine.max(), 1.0))[..., None] * WATER_RGB)


def _relief(wet: np.ndarray) -> np.ndarray:
    """Light on drops, 0..255: their distance from the drop's edge, embossed from the upper left. uint8 -> float."""
    from scipy.ndimage import correlate, uniform_filter

    # Single precision, as in the reference: in double, many a mean falls just short of the whole number it stands for.
    depth = filters.distance(filters.canny_edges(wet, 50, 150), limit=20).astype(np.float32)
    depth = filters.equalize(uniform_filter(depth, 3, mode="mirror").astype(np.uint8))
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    lit = np.clip(correlate(depth.astype(int), emboss, mode="mirror"), 0, 255)
    return np.rint(uniform_filter(lit.astype(float), 3, mode="mirror"))


def brightness(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """HSV's value raised, hue and saturation kept: that is, all three channels scaled alike; black becomes grey."""
    x = _unit(image)
    value = x.max(-1, keepdims=True)
    brighter = np.minimum(value + BRIGHTNESS[severity - 1], 1)
    return _bytes(np.where(value > 0, x * brighter / np.where(value > 0, value, 1), brighter))


def saturate(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """HSV's saturation changed, hue and value kept: each channel's distance from the largest is scaled.

    Grey has no hue and counts as red, so the two strongest severities tint it; so does the reference.
    """
    times, plus = SATURATE[severity - 1]
    x = _unit(image)
    value, spread = x.max(-1, keepdims=True), np.ptp(x, axis=-1, keepdims=True)
    saturation = spread / np.where(value > 0, value, 1)
    new_spread = np.clip(saturation * times + plus, 0, 1) * value
    below = np.where(spread > 0, (value - x) / np.where(spread > 0, spread, 1), (0.0, 1.0, 1.0))
    return _bytes(value - new_spread * below)


def contrast(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Every channel drawn towards its mean over the image."""
    x = _unit(image)
    mean = x.mean((0, 1))
    return _bytes((x - mean) * CONTRAST[severity - 1] + mean)


def elastic_transform(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Pixels moved by a smooth random field, bilinearly; its smoothness and reach go with the size of the image."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    size = image.shape[:2]
    reach, sigma = 0.005 * size[0], [0.01 * side for side in size]

    def field() -> np.ndarray:
        noise = rng.uniform(-reach, reach, size)
        return gaussian_filter(noise, sigma, mode="reflect", truncate=3.0) * ELASTIC_TRANSFORM[severity - 1]

    right, down = field(), field()
    y, x = np.indices(size)
    moved = [
        map_coordinates(c, (y + down, x + right), order=1, mode="reflect") for c in np.moveaxis(_unit(image), 2, 0)
    ]
    return _bytes(np.stack(moved, axis=-1))


def pixelate(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Made small by averaging, and large again as blocks."""
    height, width = image.shape[:2]
    small = (int(width * PIXELATE[severity - 1]), int(height * PIXELATE[severity - 1]))
    blocks = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.array(blocks.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Written as JPEG of low quality and read again."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=JPEG_COMPRESSION[severity - 1])
    with Image.open(file) as read:
        return np.array(read)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost_over,  # called directly, it wants its folder as a fourth argument
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "spatter": spatter,
    "saturate": saturate,
}
STANDARD = tuple(CORRUPTIONS)[:15]  # those that the mean corruption error is taken over
EXTRA = tuple(CORRUPTIONS)[15:]  # the authors' own validation set
