"""Image operations that the corruptions are made of, in numpy and scipy: blurs, a zoom, a height map, edges, distances.

Where a border rule, a constant or a rounding is given, it is the one of the library that the corruptions were first
written with (scikit-image or OpenCV), so that pictures agree with theirs; a test holds them to a tenth of a grey level.

Shapes: H x W pixels, C channels; images are (H, W) or (H, W, C).
"""

from __future__ import annotations

from math import ceil, cos, radians, sin

import numpy as np

KEYS_A = -0.75  # slope of OpenCV's cubic kernel; Pillow and most texts take -0.5
KNIGHT, DIAGONAL = 2.1969, 1.4  # lengths of steps in Borgefors' 5 x 5 chamfer distance, as OpenCV rounds them
TAN_22 = 0.41421356  # of 22.5 degrees, where an edge stops being upright or level and becomes diagonal


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a float image, `sigma` in pixels, cut off at 4 sigma; borders repeat, channels do not mix."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, (sigma, sigma, 0.0)[: image.ndim], mode="nearest", truncate=4.0)


def disk(radius: int, sigma: float) -> np.ndarray:
    """Kernel of an unfocused lens: a disc of `radius` pixels, its rim softened by a Gaussian.

    It sums to 1 but where the disc touches the kernel's edge (radii of 8 and more); there softening with a mirrored
    border adds a percent, and brightens the picture by as much; so it does in the reference.
    """
    from scipy.ndimage import correlate1d

    reach, rim = (8, 1) if radius <= 8 else (radius, 2)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    kernel = (x**2 + y**2 <= radius**2).astype(float)
    kernel /= kernel.sum()
    soft = np.exp(-(np.arange(-rim, rim + 1) ** 2) / (2 * sigma**2))
    for axis in (0, 1):
        kernel = correlate1d(kernel, soft / soft.sum(), axis, mode="mirror")
    return kernel


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(H, W, C) with a symmetric kernel, channel by channel; the border is mirrored without repeating its pixels."""
    from scipy.ndimage import correlate

    return np.stack([correlate(channel, kernel, mode="mirror") for channel in np.moveaxis(image, -1, 0)], axis=-1)


def streak(image: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """Motion in one direction: the image summed along a line of 2 * radius + 1 pixels, fading as half a Gaussian.

    The border repeats for as far as the line goes. (The reference stops where the line is longer than the image is
    wide, which darkens images of fewer than 41 pixels.)
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    rows, columns = (np.arange(length) for length in image.shape[:2])
    blurred = np.zeros(image.shape)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        down, right = (ceil(step * part(radians(degrees)) - 0.5) for part in (sin, cos))
        y = np.clip(rows + down, 0, len(rows) - 1)
        x = np.clip(columns + right, 0, len(columns) - 1)
        blurred += weight * image[y[:, None], x]
    return blurred


def magnify(image: np.ndarray, factor: float) -> np.ndarray:
    """The middle of the image enlarged bilinearly; as large as the image or up to `factor` pixels larger."""
    from scipy.ndimage import zoom

    kept = [ceil(length / factor) for length in image.shape[:2]]
    top, left = ((length - part) // 2 for length, part in zip(image.shape, kept, strict=False))
    middle = image[top : top + kept[0], left : left + kept[1]]
    return zoom(middle, (factor, factor, 1.0)[: image.ndim], order=1)


def height_map(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Plasma fractal (side, side) in 0..1 by the diamond-square algorithm on a torus; `side` is a power of two.

    At each halving of the step, every new point is the mean of its four neighbours plus noise, and the noise shrinks:
    its bound is the square of an amplitude that is divided by `decay`.
    """
    heights, amplitude, step = np.zeros((side, side)), 100.0, side

    def noisy(sums: np.ndarray) -> np.ndarray:
        return sums / 4 + amplitude * rng.uniform(-amplitude, amplitude, sums.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = noisy(pairs + np.roll(pairs, -1, 1))
        centres = heights[half::step, half::step]
        heights[::step, half::step] = noisy(centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1))
        heights[half::step, ::step] = noisy(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0))
        step, amplitude = half, amplitude / decay
    heights -= heights.min()
    return heights / heights.max()


def enlarged_part(
    image: np.ndarray, size: tuple[int, int], corner: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    """`shape` pixels at `corner` of the uint8 (H, W, C) image enlarged to `size`; cubic, only that part is computed."""
    y, y_weights = _cubic_taps(image.shape[0], size[0], corner[0], shape[0])
    x, x_weights = _cubic_taps(image.shape[1], size[1], corner[1], shape[1])
    rows = np.einsum("hk,hkwc->hwc", y_weights, image[y].astype(float))
    part = np.einsum("wk,hwkc->hwc", x_weights, rows[:, x])
    return np.clip(np.rint(part), 0, 255).astype(np.uint8)


def _cubic_taps(before: int, after: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which four pixels each of `count` new ones is mixed from, and how: two (count, 4) arrays."""
    centre = (np.arange(start, start + count) + 0.5) * before / after - 0.5
    taps = np.floor(centre)[:, None] + np.arange(-1, 3)
    d = np.abs(taps - centre[:, None])
    near = (KEYS_A + 2) * d**3 - (KEYS_A + 3) * d**2 + 1
    far = KEYS_A * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.clip(taps, 0, before - 1).astype(int), np.where(d <= 1, near, far)


def canny_edges(grey: np.ndarray, low: int, high: int) -> np.ndarray:
    """Canny's edges of a uint8 (H, W) image as booleans: ridges of the Sobel gradient's 1-norm above `low` that
    touch, by way of others, one above `high` (Canny 1986)."""
    from scipy.ndimage import correlate, label

    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    values = grey.astype(np.int64)
    dx, dy = correlate(values, across, mode="nearest"), correlate(values, across.T, mode="nearest")
    strength = np.abs(dx) + np.abs(dy)
    ridges = (strength > low) & _is_ridge(strength, dx, dy)
    groups, _ = label(ridges, structure=np.ones((3, 3)))
    strong = np.unique(groups[ridges & (strength > high)])
    return np.isin(groups, strong) & ridges


def _is_ridge(strength: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Larger than both neighbours along the gradient; of two equal ones on a row or column the first counts."""
    padded = np.pad(strength, 1)

    def neighbour(down: int, right: int) -> np.ndarray:
        height, width = strength.shape
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    level = (strength > neighbour(0, -1)) & (strength >= neighbour(0, 1))
    upright = (strength > neighbour(-1, 0)) & (strength >= neighbour(1, 0))
    falling = (strength > neighbour(-1, -1)) & (strength > neighbour(1, 1))
    rising = (strength > neighbour(-1, 1)) & (strength > neighbour(1, -1))
    diagonal = np.where((dx < 0) != (dy < 0), rising, falling)
    width, height = np.abs(dx), np.abs(dy)
    return np.select([height < TAN_22 * width, TAN_22 * height > width], [level, upright], diagonal)


def distance(edges: np.ndarray, limit: int) -> np.ndarray:
    """Chamfer distance in pixels to the nearest True of (H, W), at most `limit` (Borgefors 1986, 5 x 5 mask)."""
    from scipy.ndimage import grey_erosion

    steps = np.full((5, 5), float(limit))  # not a step of the mask: never shorter
    for y, x, length in ((0, 1, 1.0), (1, 1, DIAGONAL), (1, 2, KNIGHT)):
        for a, b in ((y, x), (x, y)):
            steps[[2 + a, 2 + a, 2 - a, 2 - a], [2 + b, 2 - b, 2 + b, 2 - b]] = length
    steps[2, 2] = 0.0
    distances = np.where(edges, 0.0, float(limit))
    for _ in range(limit):  # every step is at least one pixel long
        distances = grey_erosion(distances, structure=-steps, mode="nearest")
    return distances


def equalize(grey: np.ndarray) -> np.ndarray:
    """uint8 -> uint8 whose values are spread evenly over 0..255; the lowest value becomes 0, a single one stays."""
    counts = np.bincount(grey.ravel(), minlength=256)
    lowest = int(np.flatnonzero(counts)[0])
    others = grey.size - counts[lowest]
    if not others:
        return grey
    counts[: lowest + 1] = 0
    return np.rint(np.cumsum(counts) * (255 / others)).astype(np.uint8)[grey]
