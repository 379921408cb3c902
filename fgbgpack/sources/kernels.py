"""Kernels that read the entropy-coded data of JPEG files, to find out whether it is whole."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.jit import Int32, UInt8, kernel

#: What a scan may be: whole, cut short, or with a code, a coefficient or a restart marker that cannot be, or
#: with data left over.
WHOLE, CUT_SHORT, BAD_CODE, BAD_COEFFICIENT, BAD_RESTART, LEFT_OVER = range(6)

#: Bits of a Huffman code that are looked up at once.
LOOKED_UP = 9
_LOOK_UP = (1 << LOOKED_UP) - 1

_LONGEST_CODE = 16
_LAST = 63  # the last coefficient of a block

#: Where a scan is read: the position of the next byte, the last bits that were read, how many of these are
#: not used yet, and how many of them are beyond the data. All numbers have 64 bits.
Int: TypeAlias = Any
Reader: TypeAlias = tuple[Int, Int, Int, Int]


@kernel
def _filled(data: UInt8, reader: Reader) -> Reader:
    """Read bytes until there are 49 bits or more. At a marker, or the end, there are zeros in their place,
    which are counted as beyond.
    """
    position, buffer, count, beyond = reader
    while count <= 48:
        byte = np.int64(0)
        if position >= data.size:
            beyond += 8
        elif data[position] != 0xFF:
            byte = np.int64(data[position])
            position += 1
        elif position + 1 < data.size and data[position + 1] == 0:
            byte = np.int64(0xFF)
            position += 2
        else:
            beyond += 8
        buffer = (buffer << 8) | byte
        count += 8
    return position, buffer, count, beyond


@kernel
def _bits(data: UInt8, reader: Reader, n: Int) -> tuple[Int, Reader]:
    """The next ``n`` bits, 1 to 16."""
    if reader[2] < n:
        reader = _filled(data, reader)
    position, buffer, count, beyond = reader
    count -= n
    return (buffer >> count) & ((np.int64(1) << n) - 1), (position, buffer, count, beyond)


@kernel
def _symbol(data: UInt8, reader: Reader, table: Int32) -> tuple[Int, Reader]:
    """The next symbol of a Huffman table, as ``fgbgpack.sources.jpeg`` lays it out; -1 for no code."""
    if reader[2] < _LONGEST_CODE:
        reader = _filled(data, reader)
    position, buffer, count, beyond = reader
    found = np.int64(table[(buffer >> (count - LOOKED_UP)) & _LOOK_UP])
    if found:
        length, symbol = found >> 8, found & 0xFF
    else:
        symbol, length = np.int64(-1), np.int64(LOOKED_UP + 1)
        while length <= _LONGEST_CODE:
            code = (buffer >> (count - length)) & ((np.int64(1) << length) - 1)
            at = (1 << LOOKED_UP) + 2 * length
            if code < table[at]:  # one more than the largest code of this length
                symbol = np.int64(table[(1 << LOOKED_UP) + 64 + table[at + 1] + code])
                break
            length += 1
        if symbol < 0:
            return symbol, reader
    return symbol, (position, buffer, count - length, beyond)


@kernel
def _value(data: UInt8, reader: Reader, size: Int) -> tuple[Int, Reader]:
    """The signed number of a coefficient of ``size`` bits."""
    if size == 0:
        return np.int64(0), reader
    value, reader = _bits(data, reader, size)
    if value >> (size - 1):
        return value, reader
    return value - (np.int64(1) << size) + 1, reader


@kernel
def _restarted(data: UInt8, reader: Reader, marker: int) -> tuple[Int, Reader]:
    """What there is where a restart marker has to be, and the reader after it."""
    position, _, count, beyond = reader
    if count - beyond >= 8:
        return LEFT_OVER, reader
    while position + 1 < data.size and data[position] == 0xFF and data[position + 1] == 0xFF:
        position += 1
    if position + 1 >= data.size or data[position] != 0xFF or data[position + 1] != 0xD0 + marker:
        return BAD_RESTART, reader
    zero = np.int64(0)
    return WHOLE, (position + 2, zero, zero, zero)


@kernel
def check_scan(
    data: UInt8,
    start: int,
    tables: Int32,
    components: Int32,
    quantised: Int32,
    mcus: int,
    restart: int,
    band: Int32,
    limit: int,
) -> tuple[Int, Int]:
    """Read a scan of DC, or of all coefficients, from byte ``start``: what it is, and where it ends.

    ``tables`` are those of the scan's components: (2, n, size), first those of DC. ``components`` is (n, 2):
    how many blocks each has in an MCU, and its index in ``quantised``: (n, 64), the steps of its
    coefficients. There are ``mcus`` MCUs, and a marker after each ``restart``, or none. ``band`` is the first
    coefficient, 0, the last, 0 or 63, the bits that were known before, and those that remain. No coefficient
    is beyond ``limit`` by more than its step.
    """
    last, high, low = band[1], band[2], np.int64(band[3])
    predicted = np.zeros(len(components), np.int64)
    zero = np.int64(0)
    reader = (np.int64(start), zero, zero, zero)
    until_restart, marker = restart, 0
    for _ in range(mcus):
        if restart and until_restart == 0:
            found, reader = _restarted(data, reader, marker)
            if found != WHOLE:
                return found, reader[0]
            predicted[:] = 0
            marker = (marker + 1) & 7
            until_restart = restart
        until_restart -= 1
        for component in range(len(components)):
            steps = quantised[components[component, 1]]
            of_dc, of_ac = tables[0, component], tables[1, component]
            for _ in range(components[component, 0]):
                if high:
                    _, reader = _bits(data, reader, 1)
                else:
                    length, reader = _symbol(data, reader, of_dc)
                    if length < 0:
                        return BAD_CODE, reader[0]
                    if length > 11:
                        return BAD_COEFFICIENT, reader[0]
                    value, reader = _value(data, reader, length)
                    predicted[component] += value
                    if abs(predicted[component] << low) * steps[0] > limit + (steps[0] << low):
                        return BAD_COEFFICIENT, reader[0]
                k = 1
                while k <= last:
                    # Most time goes by here: both code and number are in the buffer, and the number is not
                    # looked at, only how large it is at least.
                    if reader[2] < 2 * _LONGEST_CODE:
                        reader = _filled(data, reader)
                    symbol: Int = np.int64(of_ac[(reader[1] >> (reader[2] - LOOKED_UP)) & _LOOK_UP])
                    if symbol:
                        reader = (reader[0], reader[1], reader[2] - (symbol >> 8), reader[3])
                        symbol &= 0xFF
                    else:
                        symbol, reader = _symbol(data, reader, of_ac)
                        if symbol < 0:
                            return BAD_CODE, reader[0]
                    skipped, size = symbol >> 4, symbol & 15
                    if size:
                        reader = (reader[0], reader[1], reader[2] - size, reader[3])
                        k += skipped
                        if k > _LAST or size > 10 or steps[k] << (size - 1) > limit + steps[k]:
                            return BAD_COEFFICIENT, reader[0]
                        k += 1
                    elif skipped == 15:
                        k += 16
                        if k > _LAST + 1:
                            return BAD_COEFFICIENT, reader[0]
                    else:
                        break
        if reader[2] < reader[3]:
            return CUT_SHORT, reader[0]
    return LEFT_OVER if reader[2] - reader[3] >= 8 else WHOLE, reader[0]


@kernel
def check_ac_scan(
    data: UInt8,
    start: int,
    table: Int32,
    steps: Int32,
    restart: int,
    band: Int32,
    limit: int,
    nonzero: NDArray[np.int64],
) -> tuple[Int, Int]:
    """Read a progressive scan of some coefficients of one component, as :func:`check_scan` does.

    ``nonzero`` has a bit for each coefficient that is known of each block, and gets those of this scan.
    """
    first, last, high, low = np.int64(band[0]), np.int64(band[1]), band[2], np.int64(band[3])
    zero = np.int64(0)
    reader = (np.int64(start), zero, zero, zero)
    run = zero
    until_restart, marker = restart, 0
    for block in range(len(nonzero)):
        if restart and until_restart == 0:
            found, reader = _restarted(data, reader, marker)
            if found != WHOLE:
                return found, reader[0]
            if run:
                return BAD_CODE, reader[0]
            marker = (marker + 1) & 7
            until_restart = restart
        until_restart -= 1
        known = nonzero[block]
        k = first
        while run == 0 and k <= last:
            symbol, reader = _symbol(data, reader, table)
            if symbol < 0:
                return BAD_CODE, reader[0]
            skipped, size = symbol >> 4, symbol & 15
            if size == 0 and skipped < 15:
                run = np.int64(1) << skipped
                if skipped:
                    more, reader = _bits(data, reader, skipped)
                    run += more
                break
            if size and high == 0:
                value, reader = _value(data, reader, size)
                k += skipped
                if k > last or size > 10:
                    return BAD_COEFFICIENT, reader[0]
                if abs(value << low) * steps[k] > limit + (steps[k] << low):
                    return BAD_COEFFICIENT, reader[0]
            elif high == 0:
                k += 15
            else:
                if size > 1:
                    return BAD_COEFFICIENT, reader[0]
                if size:
                    _, reader = _bits(data, reader, 1)
                # Those that are known are corrected on the way, and do not count as skipped.
                while k <= last:
                    if (known >> k) & 1:
                        _, reader = _bits(data, reader, 1)
                    elif skipped == 0:
                        break
                    else:
                        skipped -= 1
                    k += 1
                if size and k > last:
                    return BAD_COEFFICIENT, reader[0]
            if size:
                known |= np.int64(1) << k
            k += 1
        if run:
            if high:
                while k <= last:
                    if (known >> k) & 1:
                        _, reader = _bits(data, reader, 1)
                    k += 1
            run -= 1
        nonzero[block] = known
        if reader[2] < reader[3]:
            return CUT_SHORT, reader[0]
    if run:
        return BAD_CODE, reader[0]
    return LEFT_OVER if reader[2] - reader[3] >= 8 else WHOLE, reader[0]
