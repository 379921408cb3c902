"""A slow and obvious reader of sequential JPEG files, from the standard (T.81): bits in a text, codes in a
dictionary.
"""

from __future__ import annotations

import struct


def is_whole(data: bytes, largest: int) -> bool:
    """Whether the data of all scans has as many blocks as the picture, then nothing, and no coefficient is
    beyond ``largest`` by more than its step.
    """
    codes, steps, parts, at, restart = {}, {}, {}, 2, 0
    done = set()
    while data[at : at + 2] != b"\xff\xd9":
        marker, length = struct.unpack_from(">HH", data, at)
        content, at = data[at + 4 : at + 2 + length], at + 2 + length
        if marker == 0xFFC4:
            while content:
                codes[content[0]], content = read_codes(content)
        elif marker == 0xFFDB:
            while content:
                steps[content[0]], content = content[1:65], content[65:]
        elif marker in (0xFFC0, 0xFFC1):
            height, width = struct.unpack_from(">HH", content, 1)
            parts = {
                content[i]: (content[i + 1] >> 4, content[i + 1] & 15, content[i + 2])
                for i in range(6, 6 + 3 * content[5], 3)
            }
        elif marker == 0xFFDD:
            (restart,) = struct.unpack(">H", content)
        elif marker == 0xFFDA:
            chosen = [(content[1 + 2 * i], content[2 + 2 * i]) for i in range(content[0])]
            across = max(h for h, _, _ in parts.values())
            down = max(v for _, v, _ in parts.values())
            if len(chosen) == 1:
                h, v, _ = parts[chosen[0][0]]
                mcus = up(up(width * h, across), 8) * up(up(height * v, down), 8)
            else:
                mcus = up(width, 8 * across) * up(height, 8 * down)
            units = []
            for number, tables in chosen:
                h, v, step = parts[number]
                blocks = 1 if len(chosen) == 1 else h * v
                units += [(number, codes[tables >> 4], codes[0x10 | (tables & 15)], steps[step])] * blocks
            end, intervals = read_intervals(data, at)
            counts = [min(restart, mcus - i) for i in range(0, mcus, restart)] if restart else [mcus]
            if len(counts) != len(intervals) or not all(
                interval_is_whole(bits, count, units, largest)
                for bits, count in zip(intervals, counts, strict=True)
            ):
                return False
            done |= {number for number, _ in chosen}
            at = end
    return done == parts.keys()


def up(number, divisor):
    return (number + divisor - 1) // divisor


def read_codes(content):
    """The codes of one table, as texts of bits, and the content after it."""
    found, code, place = {}, 0, 17
    for length in range(1, 17):
        for _ in range(content[length]):
            found[f"{code:0{length}b}"] = content[place]
            code, place = code + 1, place + 1
        code *= 2
    return found, content[place:]


def read_intervals(data, at):
    """Where a scan ends, and the bits between its restart markers; None where these do not count up."""
    intervals, bits, marker = [], [], 0
    while at + 1 < len(data):
        if data[at] != 0xFF:
            bits.append(f"{data[at]:08b}")
            at += 1
        elif data[at + 1] == 0:
            bits.append("1" * 8)
            at += 2
        elif data[at + 1] == 0xD0 + marker:
            intervals.append("".join(bits))
            bits, marker, at = [], (marker + 1) % 8, at + 2
        else:
            break
    return at, [*intervals, "".join(bits)]


def interval_is_whole(bits, mcus, units, largest):
    at, before = 0, {}

    def symbol(codes):
        nonlocal at
        for length in range(1, 17):
            if (code := bits[at : at + length]) in codes and len(code) == length:
                at += length
                return codes[code]
        raise ValueError("no such code, or no more bits")

    def number(size):
        nonlocal at
        if size == 0:
            return 0
        text = bits[at : at + size]
        if len(text) < size:
            raise ValueError("no more bits")
        at += size
        return int(text, 2) if text[0] == "1" else int(text, 2) - 2**size + 1

    try:
        for _ in range(mcus):
            for component, of_dc, of_ac, steps in units:
                size = symbol(of_dc)
                before[component] = before.get(component, 0) + number(size)
                if size > 11 or abs(before[component]) * steps[0] > largest + steps[0]:
                    return False
                k = 1
                while k < 64:
                    both = symbol(of_ac)
                    zeros, size = both // 16, both % 16
                    if both == 0:
                        break
                    if size == 0 and zeros < 15:
                        break
                    if size == 0:
                        k += 16
                        if k > 64:
                            return False
                        continue
                    k += zeros
                    number(size)
                    if k > 63 or size > 10 or 2 ** (size - 1) * steps[k] > largest + steps[k]:
                        return False
                    k += 1
    except ValueError:
        return False
    return len(bits) - at < 8
