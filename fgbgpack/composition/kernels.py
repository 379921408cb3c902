"""Kernels of composition: counter-based random numbers and alpha compositing.

Random numbers are Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
section 4.3 and table 2). Compositing is the over operator of Porter and Duff ("Compositing digital images",
1984, section 4.3) on whole batches, in exact integer arithmetic.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.jit import Bool, Int32, Int64, UInt8, UInt32, kernel

#: A word of 32 bits, of any integer type.
Word: TypeAlias = Any

_ROUNDS = 10
_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox_key(seed: int) -> NDArray[np.uint32]:
    """The key (2,) of a seed of 64 bits, its low word first."""
    return np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)


@kernel
def philox4x32(counter: UInt32, key: UInt32, out: UInt32) -> None:
    """Fill ``out`` (n, 4) uint32 from ``counter`` (n, 4) uint32 and ``key`` (2,) uint32.

    The arithmetic is done in uint64, where a product of two 32-bit words cannot overflow.
    """
    for i in range(counter.shape[0]):
        philox_block(counter[i, 0], counter[i, 1], counter[i, 2], counter[i, 3], key, out[i])


@kernel
def philox_block(first: Word, second: Word, third: Word, fourth: Word, key: UInt32, out: UInt32) -> None:
    """Fill ``out`` (4,) uint32 from the four words of one counter, and ``key`` (2,) uint32."""
    c0 = np.uint64(first)
    c1 = np.uint64(second)
    c2 = np.uint64(third)
    c3 = np.uint64(fourth)
    k0 = np.uint64(key[0])
    k1 = np.uint64(key[1])
    for _ in range(_ROUNDS):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0 = (p1 >> _32) ^ c1 ^ k0
        c1 = p1 & _LOW
        c2 = (p0 >> _32) ^ c3 ^ k1
        c3 = p0 & _LOW
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    out[0] = np.uint32(c0)
    out[1] = np.uint32(c1)
    out[2] = np.uint32(c2)
    out[3] = np.uint32(c3)


@kernel
def multiply_high(word: Word, count: Word) -> Word:
    """Reduce a 32-bit ``word`` to a number from 0 to below ``count``: the high half of ``word * count``.

    The bias of any value is below ``count / 2**32`` (Lemire, "Fast random integer generation in an
    interval", 2019, section 2).
    """
    return np.int64((np.uint64(word) * np.uint64(count)) >> _32)


@kernel
def place_patches(
    samples: Int64,
    background_words: UInt32,
    foreground_words: UInt32,
    positions: Int32,
    placements: int,
    per_pair: int,
    key: UInt32,
    background: Int32,
    foreground: Int32,
    flip: Bool,
    replica: Int32,
    y: Int32,
    x: Int32,
) -> None:
    """Fill the arrays of placements, (n,), from the numbers of (n,) samples, as ``Plan.placements_of`` says.

    ``positions`` (F, 2) are how many rows, and how many columns, the top left corner of each foreground can
    be in. Samples must be there: nothing is checked here.
    """
    words = np.empty(4, np.uint32)
    foregrounds = len(foreground_words)
    for i in range(len(samples)):
        pair = samples[i] // per_pair
        within = samples[i] - pair * per_pair
        b = pair // foregrounds
        f = pair - b * foregrounds
        mirrored = within // placements
        again = within - mirrored * placements
        philox_block(background_words[b], foreground_words[f], mirrored, again, key, words)
        background[i] = b
        foreground[i] = f
        flip[i] = mirrored != 0
        replica[i] = again
        y[i] = multiply_high(words[0], positions[f, 0])
        x[i] = multiply_high(words[1], positions[f, 1])


_OPAQUE = np.uint16(255)
_HALF = np.uint16(128)
_BYTE = np.uint16(8)
# Pixels that are composited at a time.
_PIXELS = 32
# Numbers of 16 bits in the largest vectors of processors.
_VECTOR = 32


@kernel
def _over(alpha: Word, colour: Word, under: Word) -> Word:
    """A colour over another, in 16 bits, which no ``v`` needs more than: it is 255 * 255 + 128 at most.

    Operators would be of 64 bits where they are compiled, and four times slower.
    """
    v = np.add(np.multiply(alpha, colour), np.add(np.multiply(np.subtract(_OPAQUE, alpha), under), _HALF))
    return np.right_shift(np.add(v, np.right_shift(v, _BYTE)), _BYTE)


@kernel
def composite(
    background: UInt8,
    foreground: UInt8,
    foreground_size: Int32,
    which_background: Int32,
    which_foreground: Int32,
    flip: Bool,
    y: Int32,
    x: Int32,
    top: int,
    image: UInt8,
    mask: UInt8,
) -> None:
    """Fill ``image`` (n, rows, w, 3) and ``mask`` (n, rows, w) with a band of each placement's composite.

    The band is the picture's rows from ``top`` on; rows below the picture are filled with 0.
    ``background`` is (B, h, w, 3), ``foreground`` (F, ph, pw, 4) with straight alpha and its patch of
    ``foreground_size`` (F, 2) in the top-left corner; placements are (n,). Every patch must lie inside
    the picture: nothing is checked here.

    A colour ``f`` of alpha ``a`` over a colour ``b`` gives ``(a * f + (255 - a) * b) / 255`` rounded to
    nearest, the division done exactly by ``v += 128; (v + (v >> 8)) >> 8`` (Blinn, "Three wrongs make
    a right", 1995).
    """
    rows = image.shape[1]
    width = image.shape[2]
    inside = min(rows, background.shape[1] - top)
    # A row of a patch as it is pasted, and then transparent pixels, which change nothing: rows are then as
    # long as vectors of the processor, and have no rest.
    over = np.zeros(4 * (foreground.shape[2] + _PIXELS), np.uint8)
    pixels = over.view(np.uint32)
    patches = foreground.reshape(-1).view(np.uint32)
    filled = 0
    for i in range(image.shape[0]):
        # Plain loops over flat rows become memory copies; assigning 3-D parts is thirty times slower.
        scene = background[which_background[i], top : top + inside].reshape(-1)
        flat_image = image[i].reshape(-1)
        flat_mask = mask[i].reshape(-1)
        for k in range(scene.size):
            flat_image[k] = scene[k]
        for k in range(scene.size, flat_image.size):
            flat_image[k] = 0
        for k in range(flat_mask.size):
            flat_mask[k] = 0

        f = int(which_foreground[i])
        w = foreground_size[f, 1]
        padded = (w + _PIXELS - 1) // _PIXELS * _PIXELS
        for k in range(w, filled):
            pixels[k] = 0
        filled = w
        for row in range(max(0, top - y[i]), min(foreground_size[f, 0], top + inside - y[i])):
            first = (f * foreground.shape[1] + row) * foreground.shape[2]
            patch = patches[first : first + w]
            if flip[i]:
                for k in range(w):
                    pixels[k] = patch[w - 1 - k]
            else:
                for k in range(w):
                    pixels[k] = patch[k]
            # What is beyond the row is the next one's, and stays as it is.
            start = (y[i] + row - top) * width + x[i]
            under = flat_image[3 * start : 3 * (start + padded)]
            alphas = flat_mask[start : start + padded]
            for k in range(alphas.size):
                alpha = np.uint16(over[4 * k + 3])
                alphas[k] = alpha
                under[3 * k] = _over(alpha, np.uint16(over[4 * k]), np.uint16(under[3 * k]))
                under[3 * k + 1] = _over(alpha, np.uint16(over[4 * k + 1]), np.uint16(under[3 * k + 1]))
                under[3 * k + 2] = _over(alpha, np.uint16(over[4 * k + 2]), np.uint16(under[3 * k + 2]))


@kernel
def composite_differs(
    background: UInt8,
    foreground: UInt8,
    foreground_size: Int32,
    which_background: Int32,
    which_foreground: Int32,
    flip: Bool,
    y: Int32,
    x: Int32,
    top: int,
    image: UInt8,
    mask: UInt8,
    differs: Bool,
) -> None:
    """Say in ``differs`` (n,) of which placements :func:`composite` would give another ``image`` or ``mask``.

    Nothing is written meanwhile but rows, which takes less time than compositing and comparing. What a patch
    contributes is computed once for placements of it that follow one another, as those of a chunk do. All of
    the arithmetic then fits in 16 bits: no ``v`` is above ``255 * 255 + 128``. Where alpha is 0 it gives the
    background, so rows of patches are as long as vectors of the processor are, and have no rest.
    """
    rows = image.shape[1]
    width = image.shape[2]
    inside = min(rows, background.shape[1] - top)
    patch_rows = foreground.shape[1]
    most = 3 * (foreground.shape[2] + _VECTOR)
    alphas = np.empty((patch_rows, most), np.uint8)
    weighted = np.empty((patch_rows, most), np.uint16)
    rests = np.empty((patch_rows, most), np.uint16)
    image_row = np.empty(3 * width + most, np.uint8)
    mask_row = np.empty(width + most, np.uint8)
    prepared = -1
    for i in range(image.shape[0]):
        f = which_foreground[i]
        h = foreground_size[f, 0]
        w = foreground_size[f, 1]
        padded = (w + _VECTOR - 1) // _VECTOR * _VECTOR
        if prepared != 2 * f + flip[i]:
            prepared = 2 * f + flip[i]
            for row in range(h):
                for k in range(padded):
                    column = w - 1 - k if flip[i] else k
                    alpha = np.uint16(foreground[f, row, column, 3]) if k < w else np.uint16(0)
                    alphas[row, k] = alpha
                    for channel in range(3):
                        colour = np.uint16(foreground[f, row, column, channel]) if k < w else np.uint16(0)
                        weighted[row, 3 * k + channel] = alpha * colour + np.uint16(128)
                        rests[row, 3 * k + channel] = np.uint16(255) - alpha

        # Differences are collected, not branched on, in loops from 0 over slices: these are vectorised.
        other = np.uint8(0)
        scene = background[which_background[i], top : top + inside].reshape(-1)
        flat_image = image[i].reshape(-1)
        flat_mask = mask[i].reshape(-1)
        first_row = max(0, top - y[i])
        last_row = max(first_row, min(h, top + inside - y[i]))
        # The rows of the patch, one by one.
        for row in range(first_row, last_row):
            start = (y[i] + row - top) * width
            below = scene[3 * start : 3 * (start + width)]
            for k in range(below.size):
                image_row[k] = below[k]
            mask_row[:width] = 0
            part = image_row[3 * x[i] : 3 * (x[i] + padded)]
            over = weighted[row]
            rest = rests[row]
            for k in range(part.size):
                v = np.uint16(over[k] + rest[k] * part[k])
                v = np.uint16(v + (v >> np.uint16(8)))
                part[k] = np.uint8(v >> np.uint16(8))
            part = mask_row[x[i] : x[i] + padded]
            over = alphas[row]
            for k in range(part.size):
                part[k] = over[k]
            found = flat_image[3 * start : 3 * (start + width)]
            for k in range(found.size):
                other = np.uint8(other | (found[k] ^ image_row[k]))
            found = flat_mask[start : start + width]
            for k in range(found.size):
                other = np.uint8(other | (found[k] ^ mask_row[k]))
        # All above it, then all below it.
        start = 0
        stop = (y[i] + first_row - top) * width if first_row < last_row else inside * width
        for _ in range(2):
            found = flat_image[3 * start : 3 * stop]
            expected = scene[3 * start : 3 * stop]
            for k in range(found.size):
                other = np.uint8(other | (found[k] ^ expected[k]))
            found = flat_mask[start:stop]
            for k in range(found.size):
                other = np.uint8(other | found[k])
            start = max(stop, (y[i] + last_row - top) * width)
            stop = inside * width
        found = flat_image[3 * inside * width :]
        for k in range(found.size):
            other = np.uint8(other | found[k])
        found = flat_mask[inside * width :]
        for k in range(found.size):
            other = np.uint8(other | found[k])
        differs[i] = other != 0


@kernel
def paste_alpha(
    foreground: UInt8,
    foreground_size: Int32,
    which_foreground: Int32,
    flip: Bool,
    y: Int32,
    x: Int32,
    top: int,
    mask: UInt8,
) -> None:
    """Fill ``mask`` as :func:`composite` does, with no image beside it."""
    for i in range(mask.shape[0]):
        flat_mask = mask[i].reshape(-1)
        for k in range(flat_mask.size):
            flat_mask[k] = 0
        f = which_foreground[i]
        w = foreground_size[f, 1]
        first_column = w - 1 if flip[i] else 0
        step = -1 if flip[i] else 1
        for row in range(max(0, top - y[i]), min(foreground_size[f, 0], top + mask.shape[1] - y[i])):
            column = first_column
            for to in range(x[i], x[i] + w):
                mask[i, y[i] + row - top, to] = foreground[f, row, column, 3]
                column += step
