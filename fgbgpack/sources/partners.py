"""Files of one more kind for samples that are known already, such as depth beside annotated pictures."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

from fgbgpack.sources.pairing import (
    KINDS,
    MISSING,
    SINGULAR,
    Kind,
    Pairs,
    Pattern,
    Place,
    best_keys,
    check_patterns,
    common_folder,
    names_differ,
    no_file_fits,
    unfitting,
)
from fgbgpack.sources.problems import CountedProblems


def find_partners(
    pairs: Pairs, kind: Kind, files: Collection[str], given: Mapping[Kind, Pattern], *, folder: str
) -> tuple[Pairs, list[int]]:
    """The samples that have one more kind of file, found as :func:`find_pairs` finds it, and their numbers
    before; ``given`` says where this kind is and, where that has fields, the pictures.

    Without fields, files are paired by their paths below the folder, or else below the one that all of them
    share, and the names of samples. Files that belong to no sample are left out. Raises SpecError and
    SourceError as :func:`find_pairs`.

    Example:
        >>> pairs = Pairs({}, {"images": ["train/a.jpg", "train/b.jpg"]}, ["a", "b"])
        >>> depths = {"depths": Pattern("depth")}
        >>> found, kept = find_partners(pairs, "depths", ["depth/train/b.png"], depths, folder="in")
        >>> found.files, kept
        ({'images': ['train/b.jpg'], 'depths': ['depth/train/b.png']}, [1])
    """
    pattern, pictures = given[kind], pairs.files["images"]
    keys: Sequence[str | None] = pairs.names
    place = Place(pattern)
    if pattern.fields:
        check_patterns(given, KINDS[1:])
        fields = given["images"].fields
        of_pictures, place = Place(given["images"], fields), Place(pattern, fields)
        keys = [of_pictures.key(path) for path in pictures]
    fitting = [path for path in files if pattern.holds(path)]
    if not fitting:
        raise no_file_fits(folder, [unfitting(kind, pattern, files)])
    keyed = _keyed(fitting, place)
    by_key = {key: path for key, path in zip(keys, pictures, strict=True) if key is not None}
    if not pattern.fields and not by_key.keys() & keyed.keys():
        place = Place(Pattern(common_folder(fitting)))
        keyed = _keyed(fitting, place)
    others = {key: paths[0] for key, paths in keyed.items()}
    if not pattern.fields:
        by_key, others = best_keys({"images": by_key, kind: others}).values()
    if not by_key.keys() & others.keys():
        raise names_differ(folder, kind, pictures[0], min(fitting))
    key_of = {path: key for key, path in by_key.items()}
    twice = {paths[0]: paths for paths in keyed.values() if len(paths) > 1}
    place.example = min(fitting)
    unmatched = CountedProblems()
    unmatched.update(pairs.unmatched)
    kept = []
    for number, path in enumerate(pictures):
        key = key_of.get(path)
        partner = None if key is None else others.get(key)
        if partner in twice:
            same = f"{SINGULAR[kind]}s of the same name"
            line = f"{', '.join(sorted(twice[partner]))}: {len(twice[partner])} {same}; expected one"
            unmatched.add(same, line, "name-not-unique")
        elif partner is not None:
            kept.append(number)
        else:
            expected = f"{given['images'].text} to fit" if key is None else place.path_of(key)
            line = f"{path}: there is no {SINGULAR[kind]} for it; expected {expected}"
            unmatched.add(f"pictures without a {SINGULAR[kind]}", line, MISSING[kind])
    chosen = {one: [paths[number] for number in kept] for one, paths in pairs.files.items()}
    chosen[kind] = [others[key_of[path]] for path in chosen["images"]]
    # Rows of tables are no files.
    known = set(files)
    before, after = (
        len(known.intersection(itertools.chain.from_iterable(of_kinds.values())))
        for of_kinds in (pairs.files, chosen)
    )
    left_out = pairs.left_out + before + len(fitting) - after
    names = [pairs.names[number] for number in kept]
    patterns = pairs.patterns | {kind: pattern.text if pattern.fields else pattern.folder}
    return Pairs(patterns, chosen, names, unmatched, left_out), kept


def _keyed(files: Iterable[str], place: Place) -> dict[str, list[str]]:
    """Files by their keys."""
    found: dict[str, list[str]] = {}
    for path in files:
        if (key := place.key(path)) is not None:
            found.setdefault(key, []).append(path)
    return found
