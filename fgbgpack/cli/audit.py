"""``fgbgpack audit``: look at pictures before a dataset is made of them."""

from __future__ import annotations

import dataclasses
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fgbgpack.cli import options
from fgbgpack.cli.console import say, say_rows, say_text, say_title
from fgbgpack.cli.options import argument, command, option
from fgbgpack.cli.output import Output
from fgbgpack.cli.parse import Parser
from fgbgpack.errors import SourceError
from fgbgpack.sources.names import counted

if TYPE_CHECKING:
    from fgbgpack.pipeline import OnEvent
    from fgbgpack.sources.audit import Audit

app = typer.Typer()

_LISTED = 20
_TITLES = {
    "refused": "Would be refused",
    "remark": "To be looked at",
    "identical": "Copies",
    "similar": "Nearly the same",
    "mask": "Odd in their mask",
    "colour": "Odd in colour",
    "size": "Odd in size",
}


@command(
    app,
    "fgbgpack audit bg fg",
    "fgbgpack audit bg fg masks -o suspicious.png",
    "fgbgpack audit fg --json",
)
def audit(
    folders: list[str] = argument("FOLDER", "Folders of backgrounds, of cut-outs, or of masks."),
    output: Path | None = option(
        "--output -o FILE.png", "Also draw the suspicious pictures, with what was found, in a contact sheet."
    ),
    mask_value: str | None = options.MASK_VALUE,
    mask_threshold: str | None = options.MASK_THRESHOLD,
    invert_masks: bool | None = options.INVERT_MASKS,
    exif: str | None = options.EXIF,
    frame: str | None = options.FRAME,
    as_json: bool = options.JSON,
    quiet: bool = options.QUIET,
) -> None:
    """Look at pictures before a dataset is made of them: exit status 0 if all can be used, 3 if not.

    All are decoded. What 'fgbgpack create' would refuse is named, and what is worth a look: files that are
    copies of each other, pictures that look nearly the same, and those that are unlike most of their folder
    in mask, colour or size. Whether a folder has cut-outs, masks or other pictures shows in most of them.
    """
    from fgbgpack.sources.audit import audit as look_at
    from fgbgpack.spec import DatasetSpec

    parser = Parser()
    parser.picture(output)
    given = parser.reading_fields(
        mask_value=mask_value,
        mask_threshold=mask_threshold,
        frame=frame,
        invert_masks=invert_masks,
        exif=exif,
    )
    spec: DatasetSpec = parser.dataset(
        {"backgrounds": ".", "foregrounds": ".", **given}, size=None, depth_model=None, depth={}, config=None
    )

    def work(on_event: OnEvent) -> Audit:
        from fgbgpack.pipeline import Progress

        return look_at(folders, spec.reading, lambda done, total: on_event(Progress("sources", done, total)))

    printed = Output(as_json, quiet)
    found = printed.run(work)
    if output is not None and found.findings:
        from fgbgpack.visual.canvas import write_picture
        from fgbgpack.visual.contact_sheet import contact_sheet

        lenient = dataclasses.replace(spec.reading, strict=False)
        write_picture(contact_sheet(found, lenient), output)
    printed.show(found, lambda: _show(found, output))
    if found.refused:
        raise typer.Exit(SourceError.exit_status)


def _show(audit: Audit, output: Path | None) -> None:
    pictures = counted(sum(audit.pictures.values()), "picture")
    if not audit.findings:
        say_title(f"{pictures}: nothing wrong or odd was found")
    elif audit.refused:
        say_title(f"{pictures}: {counted(audit.refused, 'file')} would be refused")
    else:
        say_title(f"{pictures}: all can be used; some are worth a look")
    say_rows([(folder, f"{count:,} {audit.kinds[folder]}") for folder, count in audit.pictures.items()])
    for kind, group in groupby(audit.findings, key=lambda finding: finding.kind):
        findings = list(group)
        say(f"\n{_TITLES[kind]} ({len(findings):,}):")
        for finding in findings[:_LISTED]:
            say_text(f"{', '.join(finding.paths)}: {finding.text}", indent="  ", hanging="  ")
        if len(findings) > _LISTED:
            say(f"  ... and {len(findings) - _LISTED:,} more (--json lists all)")
    if output is not None and audit.findings:
        say(f"\nDrew the suspicious ones in {output}.")
