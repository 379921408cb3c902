"""Pixels made ready for compression, as PNG does it, and the outlines of masks."""

from __future__ import annotations

import numpy as np

from fgbgpack.jit import Bool, Int32, UInt8, kernel

_PAETH = 4
#: Headings along the edges of pixels: east, south, west, north. The step of each in x and in y, and the pixel
#: to the left ahead of a vertex. That to the right is the one to the left of the next heading.
_STEP_X, _STEP_Y = (1, 0, -1, 0), (0, 1, 0, -1)
_AHEAD_X, _AHEAD_Y = (0, 0, -1, -1), (-1, 0, 0, -1)


@kernel
def paeth_filter(rows: UInt8, step: int, out: UInt8) -> None:
    """Write what PNG's Paeth filter makes of a picture: each byte less the one it is guessed to be.

    The guess is that of the bytes to the left (a), above (b) and above to the left (c) which is nearest to a
    + b - c, and the earlier of them where two are as near. Beyond the picture, all are 0. (PNG, third
    edition, section 9.4.) ``rows`` is ``(h, m)``; ``step`` the bytes of a pixel, at most m; ``out`` ``(h, 1 +
    m)``, filled: the number of the filter, then the differences modulo 256.
    """
    height, length = rows.shape
    rest = length - step
    for y in range(height):
        row, line = rows[y], out[y]
        line[0] = _PAETH
        here, left, differences = row[step:], row[:rest], line[1 + step :]
        if y == 0:
            # Only the byte to the left is not 0, and so the guess.
            line[1 : 1 + step] = row[:step]
            for x in range(rest):
                differences[x] = np.uint8((np.int16(here[x]) - np.int16(left[x])) & 255)
            continue
        above = rows[y - 1]
        for x in range(step):
            line[1 + x] = np.uint8((np.int16(row[x]) - np.int16(above[x])) & 255)
        up, corner = above[step:], above[:rest]
        for x in range(rest):
            # All is done in 8 bits, so that the loop runs on the most lanes of vectors.
            a, b, c = left[x], up[x], corner[x]
            to_a = np.uint8(b - c) if b > c else np.uint8(c - b)
            to_b = np.uint8(a - c) if a > c else np.uint8(c - a)
            # Where both steps go the same way, c is the farthest, however far.
            between = np.uint8(to_a - to_b) if to_a > to_b else np.uint8(to_b - to_a)
            to_c = np.uint8(255) if (b > c) == (a > c) else between
            guess = b if to_b <= to_c else c
            guess = a if (to_a <= to_b) & (to_a <= to_c) else guess
            differences[x] = np.uint8((np.int16(here[x]) - np.int16(guess)) & 255)


@kernel
def _piece_of(run: int, parents: Int32) -> int:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@kernel
def _are_apart(one: int, other: int, parents: Int32, lists: Int32, edges: Int32) -> bool:
    """Whether two pieces must not be joined: the shorter of their lists says so."""
    if lists[one, 2] > lists[other, 2]:
        one, other = other, one
    edge = lists[one, 0]
    while edge >= 0:
        if _piece_of(edges[edge, 0], parents) == other:
            return True
        edge = edges[edge, 1]
    return False


@kernel
def _append(piece: int, first: int, last: int, count: int, lists: Int32, edges: Int32) -> None:
    """Append edges that are linked already to the list of a piece."""
    if first < 0:
        return
    if lists[piece, 0] < 0:
        lists[piece, 0] = first
    else:
        edges[lists[piece, 1], 1] = first
    lists[piece, 1] = last
    lists[piece, 2] += count


@kernel
def cut_into_pieces(inside: Bool, most_runs: int, pieces: Int32, starts: Int32) -> int:
    """Number the pieces of a mask: connected parts without holes that touch themselves nowhere.

    A run of pixels in a row joins the piece of a run above it where they share an edge, unless it touches
    that piece a second time, or what it has joined already does. So a part of the mask that neither has a
    hole nor touches itself is one piece. ``inside`` is ``(h, w)``, ``most_runs`` the number of its runs.
    ``pieces``, ``(h, w)``, is filled: 0 outside, else the number of the piece from 1, in the order of their
    first pixels; ``starts``, ``(most_runs, 2)``, with row and column of these. Returns the number of pieces.
    """
    height, width = inside.shape
    # The row, the first column and the end of each run. A piece is known by its first run.
    runs = np.empty((most_runs, 3), np.int32)
    parents = np.empty(most_runs, np.int32)
    # What each piece must not be joined to: the first and last edge of a linked list, and its length. An edge
    # has a run, and the edge that follows.
    lists = np.full((most_runs, 3), -1, np.int32)
    edges = np.empty((4 * most_runs, 2), np.int32)
    # How often the run in hand touches each piece, and the pieces that it touches, from left to right.
    touches = np.zeros(most_runs, np.int32)
    touched = np.empty(width + 1, np.int32)
    run = edge = above_from = above_to = 0
    for y in range(height):
        row_from, first, x = run, above_from, 0
        while x < width:
            if not inside[y, x]:
                x += 1
                continue
            start = x
            while x < width and inside[y, x]:
                x += 1
            runs[run, 0], runs[run, 1], runs[run, 2] = y, start, x
            parents[run], lists[run, 2] = run, 0
            while first < above_to and runs[first, 2] < start:
                first += 1
            end = first
            while end < above_to and runs[end, 1] <= x:
                piece = _piece_of(end, parents)
                touched[end - first] = piece
                touches[piece] += 1
                end += 1
            for above in range(first, end):
                own, piece = _piece_of(run, parents), touched[above - first]
                shares_edge = runs[above, 2] > start and runs[above, 1] < x
                if shares_edge and touches[piece] == 1 and not _are_apart(own, piece, parents, lists, edges):
                    kept, gone = min(own, piece), max(own, piece)
                    parents[gone] = kept
                    _append(kept, lists[gone, 0], lists[gone, 1], lists[gone, 2], lists, edges)
                else:
                    edges[edge, 0], edges[edge, 1] = above, -1
                    _append(own, edge, edge, 1, lists, edges)
                    edges[edge + 1, 0], edges[edge + 1, 1] = run, -1
                    _append(piece, edge + 1, edge + 1, 1, lists, edges)
                    edge += 2
            for above in range(first, end):
                touches[touched[above - first]] = 0
            run += 1
        above_from, above_to = row_from, run
    count = 0
    numbers = np.empty(most_runs, np.int32)
    pieces[:] = 0
    for i in range(run):
        piece = _piece_of(i, parents)
        if piece == i:
            starts[count, 0], starts[count, 1] = runs[i, 0], runs[i, 1]
            count += 1
            numbers[i] = count
        pieces[runs[i, 0], runs[i, 1] : runs[i, 2]] = numbers[piece]
    return count


@kernel
def trace_pieces(pieces: Int32, starts: Int32, points: Int32, lengths: Int32) -> None:
    """Write the corners of each piece, clockwise along the edges of its pixels, from its first pixel.

    ``pieces`` is ``(h, w)`` and ``starts`` ``(n, 2)``, as :func:`cut_into_pieces` fills them. ``points``,
    ``(m, 2)``, is filled with x and y of the corners, piece after piece, at most four for each run;
    ``lengths``, ``(n,)``, with the number of them of each piece.
    """
    height, width = pieces.shape
    point = 0
    for i in range(len(starts)):
        number = i + 1
        y, x = starts[i]
        points[point, 0], points[point, 1] = x, y
        first = point
        point += 1
        heading = 0
        while True:
            x += _STEP_X[heading]
            y += _STEP_Y[heading]
            if y == starts[i, 0] and x == starts[i, 1]:
                break
            right = (heading + 1) % 4
            left_x, left_y = x + _AHEAD_X[heading], y + _AHEAD_Y[heading]
            right_x, right_y = x + _AHEAD_X[right], y + _AHEAD_Y[right]
            if 0 <= left_x < width and 0 <= left_y < height and pieces[left_y, left_x] == number:
                heading = (heading + 3) % 4
            elif not (0 <= right_x < width and 0 <= right_y < height and pieces[right_y, right_x] == number):
                heading = right
            else:
                continue
            points[point, 0], points[point, 1] = x, y
            point += 1
        lengths[i] = point - first
