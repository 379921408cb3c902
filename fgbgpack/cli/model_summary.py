"""What ``fgbgpack models`` prints on stdout for people to read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbgpack.cli.console import amount, say
from fgbgpack.cli.summary import print_facts

if TYPE_CHECKING:
    from fgbgpack.depth.download import Fetched
    from fgbgpack.depth.registry import Entry
    from fgbgpack.visual.comparison import Comparison
    from fgbgpack.visual.model_check import ModelCheck
    from fgbgpack.visual.statistics import Spread


def entry_facts(entry: Entry) -> dict[str, Any]:
    """A model of the list, as JSON."""
    output = entry.card["output"]
    size = entry.path.stat().st_size if entry.here else entry.card.get("size")
    return {
        "name": entry.name,
        "quantity": output["quantity"],
        "unit": output["unit"],
        "guided": _is_guided(entry.card),
        "licence": entry.card.get("licence"),
        "size": size,
        "source": entry.card.get("source"),
        "here": entry.here,
        "embedded": entry.is_embedded,
        "path": str(entry.path),
    }


def show_entries(entries: Sequence[Entry], folder: Path) -> None:
    """The models that have a name, one a line."""
    rows, sources = [("name", "gives", "licence", "size", "file")], [""]
    for entry in entries:
        facts = entry_facts(entry)
        if entry.here:
            where = "comes with fgbgpack" if entry.is_embedded else "here"
        else:
            where = "models get" if "download" in entry.card else "by hand"
        size = amount(facts["size"]) if facts["size"] else "-"
        gives = "foregrounds" if facts["guided"] else _meaning(facts["quantity"], facts["unit"])
        rows.append((entry.name, gives, facts["licence"] or "not stated", size, where))
        sources.append(facts["source"] or "")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for i, (row, source) in enumerate(zip(rows, sources, strict=True)):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say(line.rstrip(), style="" if i else "bold")
        # On a line of its own: an address is long, and is to be copied whole.
        if source:
            say(f"    {source}", style="dim")
    say(f"\nFiles are looked for in {folder}")
    say("fgbgpack models show NAME tells all about one, and how to get it.")


def show_entry(entry: Entry, how_to_get: str) -> None:
    """All about one model."""
    card = entry.card
    say(f"{entry.name}: {card.get('title', 'a depth model')}", style="bold")
    if "description" in card:
        say(card["description"])
    facts = [
        ("gives", _gives(card)),
        ("made by", card.get("made_by", "not stated")),
        ("licence", card.get("licence", "not stated")),
        ("source", card.get("source", "not stated")),
        ("SHA-256", card.get("sha256", "not stated: the file cannot be verified")),
        *_convention(card),
        ("card", "comes with fgbgpack" if entry.is_ours else str(entry.card_path)),
        ("file", _file(entry)),
    ]
    print_facts(facts)
    say("")
    if entry.here:
        say(f"Use it with: {_use(entry.name, card)}")
        say(f"Try it with: fgbgpack models check {entry.name}")
    else:
        say(how_to_get)


def show_fetched(name: str, fetched: Fetched, card: Mapping[str, Any]) -> None:
    """Where a file is now, and whether it is the right one."""
    done = "Got" if fetched.received else "Already there:"
    say(f"{done} {fetched.path} ({amount(fetched.path.stat().st_size)})", style="bold")
    say(f"SHA-256 {fetched.sha256}")
    if fetched.verified:
        say("It is the digest that the card asks for.")
    else:
        say("Not verified: the card knows no digest to compare that with. Compare it with one you trust.")
    say(f"\nUse it with: {_use(name, card)}")
    say(f"Try it with: fgbgpack models check {name}")


def show_card(path: Path, card_path: Path) -> None:
    """What to do with a card that was just written."""
    say(f"Wrote {card_path}", style="bold")
    say("Check every value against the model's documentation, then see whether depth comes out:")
    say(f"  fgbgpack models check {shlex.quote(str(path))}")


def show_imported(out: Path, name: str | None) -> None:
    """Where an imported model is, and what to do with it."""
    reference = name or shlex.quote(str(out))
    say(f"Wrote {out} and its card {out.with_suffix('.json')}", style="bold")
    say(f"\nUse it with: --depth-model {reference}")
    say(f"Try it with: fgbgpack models check {reference}")


def show_check(check: ModelCheck) -> None:
    """The report of a check."""
    verdict = "depth that can be used" if not check.problems else "something is wrong"
    say(f"{check.model}: {verdict}", style="bold")
    height, width = check.picture
    people = ", with one figure each" if check.figures is not None else ""
    facts = [
        ("file", check.path),
        ("pictures", f"{len(check.agreement)} rendered rooms of {width}x{height}{people}"),
        ("network's input", f"{check.network[1]}x{check.network[0]} (width x height)"),
        ("gives", _meaning(check.quantity, check.unit)),
        ("range", f"{check.minimum:.4g} to {check.maximum:.4g}, no NaN"),
        ("nearer is nearer", "yes" if check.rank > 0 else "NO: nearer comes out farther"),
        (
            "rank agreement",
            f"{check.rank:.2f} with true depth, {min(check.agreement):.2f} to {max(check.agreement):.2f}; a "
            f"plain gradient reaches {check.gradient:.2f}",
        ),
    ]
    if check.figures is not None:
        figures = check.figures
        facts += [
            (
                "figures' distance",
                f"{figures.off:.0%} off (median), {min(figures.each_off):.0%} to {max(figures.each_off):.0%}",
            ),
            ("step at the outline", f"{figures.step:.2f}; true depth has {figures.true_step:.2f}"),
        ]
    if check.metres is not None:
        facts.append(("metres", f"{check.metres:.3g} times the true ones (median)"))
    facts.append(("speed", f"{check.rate:,.1f} pictures/s on {check.provider}, {check.precision}"))
    print_facts(facts)


def show_comparison(comparison: Comparison) -> None:
    """Figures of each model, then how far they agree with each other: medians, and quartiles in brackets."""
    say(f"{len(comparison.samples):,} samples of {comparison.dataset}", style="bold")
    for model in comparison.models:
        gives = _meaning(model.quantity, model.unit)
        say(f"\n{model.label}", style="bold")
        facts = [
            ("gives", f"{gives}; scale {model.scale}, {model.provider}, {model.precision}"),
            ("step at the outline", _spread(model.step)),
        ]
        if model.truth is not None:
            facts.append(("rank agreement with truth", _spread(model.truth)))
        if model.truth_error is not None:
            facts.append(("error of depth, fitted", _spread(model.truth_error, percent=True)))
        print_facts(facts)
    if comparison.agreement:
        say("\nRank agreement with each other", style="bold")
        print_facts([(f"{pair.first}, {pair.second}", _spread(pair.rank)) for pair in comparison.agreement])
    say(
        "\nThe step is how much nearer a person is than what is beside the outline, in standard deviations "
        "of the map: near 0 people melt into the scene, above 1 they stand out."
    )
    if comparison.true_depth is not None:
        say(f"True depth: {comparison.true_depth}")


def _spread(spread: Spread | None, *, percent: bool = False) -> str:
    if spread is None:
        return "-"
    form = ".1%" if percent else ".2f"
    return f"{spread.median:{form}} ({spread.lower:{form}} to {spread.upper:{form}})"


def _convention(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the network is fed and what is made of its answer, in a line each."""
    given, result = card["input"], card["output"]
    low, high = given["range"]
    fed = [given["layout"], given["channels"], f"{low:g} to {high:g}", given.get("dtype", "float32")]
    fed += [f"{key} {', '.join(f'{v:g}' for v in given[key])}" for key in ("mean", "std") if key in given]
    rule = given["size"]
    if "fixed" in rule:
        size = f"{rule['fixed'][1]}x{rule['fixed'][0]} (width x height)"
    else:
        size = f"multiples of {rule['multiple_of']}"
        size += "".join(f", {side.replace('_', ' ')} {n}" for side, n in rule.get("target", {}).items())
    steps = result.get("transform", [])
    return [
        ("takes", "; ".join(fed)),
        *_guides(card),
        ("at", f"{size}; resized {given.get('filter', 'bilinear')}"),
        (
            "answers",
            f"{result['axes']}, of the {result.get('of', 'picture')}"
            + (f", then {json.dumps(steps)}" if steps else ""),
        ),
    ]


def _guides(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the network is told beside the picture."""
    guides, lines = card.get("guides", {}), []
    if "mask" in guides:
        low, high = guides["mask"]["range"]
        lines.append(("mask", f"{low:g} to {high:g}"))
    if "background_depth" in guides:
        lines.append(("background", "inverse depth, less its median, over its mean deviation from that"))
    return lines


def _is_guided(card: Mapping[str, Any]) -> bool:
    return "background_depth" in card.get("guides", {})


def _gives(card: Mapping[str, Any]) -> str:
    if _is_guided(card):
        return "where a pasted foreground stands, beside a network that gives the depth of backgrounds"
    return _meaning(card["output"]["quantity"], card["output"]["unit"])


def _use(name: str, card: Mapping[str, Any]) -> str:
    return f"--depth-mode guided --depth-guide {name}" if _is_guided(card) else f"--depth-model {name}"


def _file(entry: Entry) -> str:
    if not entry.here:
        return "not here yet"
    return f"{entry.path}, comes with fgbgpack" if entry.is_embedded else str(entry.path)


def _meaning(quantity: str, unit: str | None) -> str:
    return "metres" if unit == "m" else "inverse depth" if quantity == "inverse_depth" else "relative depth"
