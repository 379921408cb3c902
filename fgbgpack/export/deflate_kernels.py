"""Deflate (RFC 1951): repetitions in bytes, codes for what is left, and the bits of both.

Bytes become tokens: some literal bytes, and then the repetition of earlier bytes, if its length is not 0.
``tokens`` has them as rows: the number of literals, the length, the distance.
"""

from __future__ import annotations

import numpy as np

from fgbgpack.jit import Int32, UInt8, UInt32, UInt64, kernel

#: The least number of bytes that a run repeats, the least length of other repetitions that are looked for,
#: and the greatest that there is. Shorter ones save hardly anything, and take as long to find.
RUN, REPETITION, LONGEST = 8, 6, 258
#: How far back a repetition may be, and how many bytes a block may have: places take 16 bits.
WINDOW, BLOCK = 1 << 15, (1 << 16) - 1
#: The hash of REPETITION bytes has so many bits.
HASH_BITS = 12
#: Symbols of bytes, of the end and of lengths, and symbols of distances.
LITERALS, DISTANCES = 286, 30

_END, _SHORTEST = 256, 3
_MAX_BITS = 15
#: The lengths of codes are coded themselves, with at most so many bits, and sent in this order.
_LENGTHS, _LENGTHS_MAX_BITS = 19, 7
_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], np.int64)
#: The same length again 3 to 6 times; 3 to 10 zeros; 11 to 138 zeros.
_SAME, _ZEROS, _MANY_ZEROS = 16, 17, 18
#: An entry of a table of codes has the number of bits in its low bits.
_COUNT_BITS = np.uint64(5)
_COUNT = np.uint64(31)
_PLACE_BITS, _PLACE = np.uint64(16), np.uint64(0xFFFF)
#: An entry of a hash table that is no place.
_NOWHERE = np.uint64(0xFFFFFFFFFFFFFFFF)
#: Halves of REPETITION bytes, and what spreads them: no product exceeds 64 bits.
_HALF_BITS, _HALF = np.uint64(24), np.uint64(0xFFFFFF)
_SPREAD, _SPREAD_TOO = np.uint64(0x9E3779B1), np.uint64(0x85EBCA6B)
_HASH_SHIFT, _HASH = np.uint64(32 - HASH_BITS), np.uint64((1 << HASH_BITS) - 1)


def _ranges(extra: list[int], first: int) -> np.ndarray:
    """(symbols, 2) int64: the least number that each symbol stands for, from ``first``, and the bits that
    follow it.
    """
    least = first + np.concatenate([[0], np.cumsum(1 << np.array(extra))[:-1]])
    return np.stack([least, extra], axis=1).astype(np.int64)


_LENGTH_RANGES = _ranges([0] * 8 + [bits for bits in range(1, 6) for _ in range(4)], _SHORTEST)
# The greatest length has a symbol of its own.
_LENGTH_RANGES = np.concatenate([_LENGTH_RANGES, [[LONGEST, 0]]])
_DISTANCE_RANGES = _ranges([0, 0] + [bits for bits in range(14) for _ in range(2)], 1)
_LENGTH_SYMBOL = np.searchsorted(_LENGTH_RANGES[:, 0], np.arange(LONGEST + 1), side="right") - 1
_NEAR = 256
#: Of distances up to _NEAR, and then of each 128.
_DISTANCE_SYMBOL = (
    np.searchsorted(
        _DISTANCE_RANGES[:, 0],
        np.concatenate([np.arange(1, _NEAR + 1), np.arange(1, WINDOW, 128)]),
        side="right",
    )
    - 1
)


@kernel
def find_runs(data: UInt8, tokens: Int32) -> int:
    """Write the tokens of bytes of which only runs of one value are repetitions; return how many there are.

    ``tokens`` is ``(m, 3)`` with m at least ``len(data) // REPETITION + 1``.
    """
    size = len(data)
    count = 0
    literals_from = 0
    place = 0
    # Of every six places, a run of more than RUN bytes has one from which on four are the same.
    while place + 3 < size:
        value = data[place]
        if (
            np.uint8(data[place + 1] ^ value)
            | np.uint8(data[place + 2] ^ value)
            | np.uint8(data[place + 3] ^ value)
        ):
            place += 6
            continue
        start = place + 1
        while start > max(literals_from, 1) and data[start - 2] == value:
            start -= 1
        place += 4
        end = min(size, start + LONGEST)
        while place < end and data[place] == value:
            place += 1
        if place - start >= RUN:
            tokens[count, 0] = start - literals_from
            tokens[count, 1] = place - start
            tokens[count, 2] = 1
            count += 1
            literals_from = place
    tokens[count, 0] = size - literals_from
    tokens[count, 1] = 0
    tokens[count, 2] = 0
    return count + 1


@kernel
def _bytes_at(data: UInt8, i: int) -> np.uint64:
    """REPETITION bytes as one number."""
    return (
        np.uint64(data[i])
        | (np.uint64(data[i + 1]) << np.uint64(8))
        | (np.uint64(data[i + 2]) << np.uint64(16))
        | (np.uint64(data[i + 3]) << np.uint64(24))
        | (np.uint64(data[i + 4]) << np.uint64(32))
        | (np.uint64(data[i + 5]) << np.uint64(40))
    )


@kernel
def _slot(found: np.uint64) -> np.uint64:
    spread = (found & _HALF) * _SPREAD + (found >> _HALF_BITS) * _SPREAD_TOO
    return (spread >> _HASH_SHIFT) & _HASH


@kernel
def find_repetitions(data: UInt8, row: int, lead: int, step: int, table: UInt64, tokens: Int32) -> int:
    """The same with repetitions of any earlier bytes, which begin at whole pixels.

    Of ``data``, at most BLOCK bytes, each ``row`` bytes are ``lead`` ones, then one or more pixels of
    ``step`` bytes. ``table`` is ``(2 ** HASH_BITS,)``, for the kernel's own use.
    """
    size = len(data)
    table[:] = _NOWHERE
    count = 0
    literals_from = 0
    place = 0
    row_end = 0
    while place + REPETITION <= size:
        if place >= row_end:
            while place >= row_end:
                place = max(place, row_end + lead)
                row_end += row
            place += (row_end + lead - row - place) % step
            continue
        found = _bytes_at(data, place)
        slot = _slot(found)
        entry = table[slot]
        table[slot] = (found << _PLACE_BITS) | np.uint64(place)
        distance = place - np.int64(entry & _PLACE)
        if entry >> _PLACE_BITS != found or distance > WINDOW or distance <= 0:
            place += step
            continue
        start = place
        end = min(size, place + LONGEST)
        place += REPETITION
        while place < end and data[place] == data[place - distance]:
            place += 1
        tokens[count, 0] = start - literals_from
        tokens[count, 1] = place - start
        tokens[count, 2] = distance
        count += 1
        literals_from = place
        place += (row_end + lead - row - place) % step
        for i in range(start + step, min(literals_from, size - REPETITION + 1), step):
            found = _bytes_at(data, i)
            table[_slot(found)] = (found << _PLACE_BITS) | np.uint64(i)
    tokens[count, 0] = size - literals_from
    tokens[count, 1] = 0
    tokens[count, 2] = 0
    return count + 1


@kernel
def _distance_symbol(distance: int) -> int:
    if distance <= _NEAR:
        return int(_DISTANCE_SYMBOL[distance - 1])
    return int(_DISTANCE_SYMBOL[_NEAR + ((distance - 1) >> 7)])


@kernel
def count_symbols(data: UInt8, tokens: Int32, literals: Int32, distances: Int32) -> None:
    """Count how often each symbol of the tokens of ``data`` occurs.

    ``literals``, ``(286,)``, is filled for bytes, the end and lengths, ``distances``, ``(30,)``.
    """
    # The same byte often comes twice in a row: on tables of their own, neither count waits for the other.
    counts = np.zeros((4, 256), np.int32)
    literals[:] = 0
    distances[:] = 0
    position = 0
    for i in range(len(tokens)):
        part = data[position : position + tokens[i, 0]]
        fours = len(part) // 4 * 4
        for j in range(0, fours, 4):
            counts[0, part[j]] += 1
            counts[1, part[j + 1]] += 1
            counts[2, part[j + 2]] += 1
            counts[3, part[j + 3]] += 1
        for j in range(fours, len(part)):
            counts[0, part[j]] += 1
        length = tokens[i, 1]
        position += len(part) + length
        if length:
            literals[_END + 1 + _LENGTH_SYMBOL[length]] += 1
            distances[_distance_symbol(tokens[i, 2])] += 1
    for value in range(256):
        literals[value] = counts[0, value] + counts[1, value] + counts[2, value] + counts[3, value]
    literals[_END] = 1


@kernel
def code_lengths(counts: Int32, most: int, lengths: UInt8) -> None:
    """Write how many bits each symbol's code has, at most ``most``, so that all together are fewest.

    ``lengths`` is 0 where the count is, unless fewer than two symbols occur: there are two codes at least. By
    Moffat and Katajainen, In-place calculation of minimum-redundancy codes (1995). Codes that are too long
    are shortened, at the cost of others.
    """
    used = 0
    symbols = np.empty(len(counts), np.int64)
    lengths[:] = 0
    for symbol in range(len(counts)):
        if counts[symbol]:
            symbols[used] = symbol
            used += 1
    if used < 2:
        other = symbols[0] if used else 1
        lengths[0] = lengths[max(other, 1)] = 1
        return
    # Sorted by their counts, by 8 bits at a time; those that are equal stay in order.
    others = np.empty(used, np.int64)
    for shift in range(0, 32, 8):
        first = np.zeros(257, np.int64)
        for i in range(used):
            first[((counts[symbols[i]] >> shift) & 255) + 1] += 1
        if first[1] == used:
            continue
        for i in range(256):
            first[i + 1] += first[i]
        for i in range(used):
            digit = (counts[symbols[i]] >> shift) & 255
            others[first[digit]] = symbols[i]
            first[digit] += 1
        symbols[:used] = others
    # Inner nodes by their weights, then by their parents, then by their depths.
    nodes = np.empty(used, np.int64)
    for i in range(used):
        nodes[i] = counts[symbols[i]]
    nodes[0] += nodes[1]
    root, leaf = 0, 2
    for i in range(1, used - 1):
        if leaf >= used or nodes[root] < nodes[leaf]:
            nodes[i] = nodes[root]
            nodes[root] = i
            root += 1
        else:
            nodes[i] = nodes[leaf]
            leaf += 1
        if leaf >= used or (root < i and nodes[root] < nodes[leaf]):
            nodes[i] += nodes[root]
            nodes[root] = i
            root += 1
        else:
            nodes[i] += nodes[leaf]
            leaf += 1
    nodes[used - 2] = 0
    for i in range(used - 3, -1, -1):
        nodes[i] = nodes[nodes[i]] + 1
    # How many codes have each length: what is no inner node at a depth is a leaf.
    numbers = np.zeros(max(used, most) + 1, np.int64)
    free, depth, inner = 1, 0, used - 2
    while free > 0:
        nested = 0
        while inner >= 0 and nodes[inner] == depth:
            nested += 1
            inner -= 1
        numbers[depth] = free - nested
        free = 2 * nested
        depth += 1
    for length in range(most + 1, len(numbers)):
        numbers[most] += numbers[length]
        numbers[length] = 0
    taken = 0
    for length in range(1, most + 1):
        taken += numbers[length] << (most - length)
    while taken > 1 << most:
        numbers[most] -= 1
        for length in range(most - 1, 0, -1):
            if numbers[length]:
                numbers[length] -= 1
                numbers[length + 1] += 2
                break
        taken -= 1
    place = used
    for length in range(1, most + 1):
        for _ in range(numbers[length]):
            place -= 1
            lengths[symbols[place]] = length


@kernel
def _codes_of(lengths: UInt8, codes: UInt32) -> None:
    """Write the canonical code of each symbol, its first bit lowest, above the number of its bits."""
    numbers = np.zeros(_MAX_BITS + 2, np.int64)
    for length in lengths:
        numbers[length] += 1
    numbers[0] = 0
    following = np.zeros(_MAX_BITS + 2, np.int64)
    for length in range(1, _MAX_BITS + 1):
        following[length] = (following[length - 1] + numbers[length - 1]) << 1
    for symbol in range(len(lengths)):
        length = np.int64(lengths[symbol])
        code, turned = following[length], 0
        following[length] += 1
        for _ in range(length):
            turned = (turned << 1) | (code & 1)
            code >>= 1
        codes[symbol] = (turned << 5) | length


@kernel
def _coded_lengths(lengths: UInt8, coded: UInt8) -> int:
    """Write the symbols of codes' lengths, each with the number that follows it; return how many."""
    count = 0
    i = 0
    while i < len(lengths):
        value = lengths[i]
        end = i + 1
        while end < len(lengths) and lengths[end] == value:
            end += 1
        times = end - i
        i = end
        if value != 0:
            coded[count, 0], coded[count, 1] = value, 0
            count += 1
            times -= 1
        while times > 2:
            most = 6 if value != 0 else 138
            now = min(times, most)
            if value != 0:
                coded[count, 0], coded[count, 1] = _SAME, now - 3
            elif now < 11:
                coded[count, 0], coded[count, 1] = _ZEROS, now - 3
            else:
                coded[count, 0], coded[count, 1] = _MANY_ZEROS, now - 11
            count += 1
            times -= now
        for _ in range(times):
            coded[count, 0], coded[count, 1] = value, 0
            count += 1
    return count


@kernel
def _append(
    value: np.uint64, count: np.uint64, out: UInt32, word: int, buffer: np.uint64, n: np.uint64
) -> tuple[int, np.uint64, np.uint64]:
    """Append at most 32 bits to the fewer than 32 of the buffer, and write a word of ``out``: whether it is
    full cannot be foreseen, so that doing it always is faster.
    """
    buffer |= value << n
    n += count
    out[word] = np.uint32(buffer)
    full = n >> _COUNT_BITS
    return word + int(full), buffer >> (full << _COUNT_BITS), n & _COUNT


@kernel
def write_block(
    data: UInt8, tokens: Int32, is_last: bool, literals: Int32, distances: Int32, bits: int, out: UInt32
) -> int:
    """Write the tokens of ``data`` as a block with codes of its own; return how many bits ``out`` has then.

    The counts of symbols are those of :func:`count_symbols`. ``out``, whole numbers of 32 bits, the lowest
    first, has ``bits`` bits already. It needs room for 2 more bytes for each byte, and 512 more.
    """
    lengths = np.zeros(LITERALS + DISTANCES, np.uint8)
    code_lengths(literals, _MAX_BITS, lengths[:LITERALS])
    code_lengths(distances, _MAX_BITS, lengths[LITERALS:])
    codes = np.empty(LITERALS, np.uint32)
    _codes_of(lengths[:LITERALS], codes)
    distance_codes = np.empty(DISTANCES, np.uint32)
    _codes_of(lengths[LITERALS:], distance_codes)
    length_codes = np.empty(LONGEST + 1, np.uint64)
    for length in range(_SHORTEST, LONGEST + 1):
        symbol = _LENGTH_SYMBOL[length]
        code = np.uint64(codes[_END + 1 + symbol])
        extra = np.uint64(length - _LENGTH_RANGES[symbol, 0])
        length_codes[length] = (
            code + np.uint64(_LENGTH_RANGES[symbol, 1]) + (extra << ((code & _COUNT) + _COUNT_BITS))
        )

    # The head: how many codes of each kind, and their lengths.
    used, distances_used = LITERALS, DISTANCES
    while lengths[used - 1] == 0:
        used -= 1
    while lengths[LITERALS + distances_used - 1] == 0:
        distances_used -= 1
    lengths[used : used + distances_used] = lengths[LITERALS : LITERALS + distances_used].copy()
    coded = np.empty((LITERALS + DISTANCES, 2), np.uint8)
    coded = coded[: _coded_lengths(lengths[: used + distances_used], coded)]
    counts = np.zeros(_LENGTHS, np.int32)
    for i in range(len(coded)):
        counts[coded[i, 0]] += 1
    own = np.empty(_LENGTHS, np.uint8)
    code_lengths(counts, _LENGTHS_MAX_BITS, own)
    own_codes = np.empty(_LENGTHS, np.uint32)
    _codes_of(own, own_codes)
    sent = _LENGTHS
    while own[_ORDER[sent - 1]] == 0:
        sent -= 1

    word = bits >> 5
    n = np.uint64(bits & 31)
    buffer = np.uint64(out[word]) if n else np.uint64(0)
    head = np.uint64(is_last | 0b100 | (used - 257) << 3 | (distances_used - 1) << 8 | (sent - 4) << 13)
    word, buffer, n = _append(head, np.uint64(17), out, word, buffer, n)
    for i in range(sent):
        word, buffer, n = _append(np.uint64(own[_ORDER[i]]), np.uint64(3), out, word, buffer, n)
    for i in range(len(coded)):
        symbol = coded[i, 0]
        code = np.uint64(own_codes[symbol])
        word, buffer, n = _append(code >> _COUNT_BITS, code & _COUNT, out, word, buffer, n)
        if symbol >= _SAME:
            count = np.uint64(2 if symbol == _SAME else 3 if symbol == _ZEROS else 7)
            word, buffer, n = _append(np.uint64(coded[i, 1]), count, out, word, buffer, n)

    position = 0
    for i in range(len(tokens)):
        part = data[position : position + tokens[i, 0]]
        pairs = len(part) // 2 * 2
        for j in range(0, pairs, 2):
            code = np.uint64(codes[part[j]])
            other = np.uint64(codes[part[j + 1]])
            count = code & _COUNT
            both = (code >> _COUNT_BITS) | ((other >> _COUNT_BITS) << count)
            word, buffer, n = _append(both, count + (other & _COUNT), out, word, buffer, n)
        if pairs < len(part):
            code = np.uint64(codes[part[pairs]])
            word, buffer, n = _append(code >> _COUNT_BITS, code & _COUNT, out, word, buffer, n)
        length = tokens[i, 1]
        position += len(part) + length
        if length:
            code = length_codes[length]
            word, buffer, n = _append(code >> _COUNT_BITS, code & _COUNT, out, word, buffer, n)
            symbol = _distance_symbol(tokens[i, 2])
            code = np.uint64(distance_codes[symbol])
            extra = np.uint64(tokens[i, 2] - _DISTANCE_RANGES[symbol, 0]) << (code & _COUNT)
            count = (code & _COUNT) + np.uint64(_DISTANCE_RANGES[symbol, 1])
            word, buffer, n = _append((code >> _COUNT_BITS) | extra, count, out, word, buffer, n)
    code = np.uint64(codes[_END])
    word, buffer, n = _append(code >> _COUNT_BITS, code & _COUNT, out, word, buffer, n)
    out[word] = np.uint32(buffer)
    return word * 32 + int(n)
