"""The flags that several subcommands share."""

from __future__ import annotations

from typing import Annotated

import typer

LakeUrl = Annotated[
    str, typer.Option("--lake", metavar="URL", help="The lake: a folder or an fsspec URL.")
]
ConfigFile = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="TOML with a table a job; flags win over it."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")
]
MaxRejects = Annotated[
    float,
    typer.Option(
        "--max-reject-fraction",
        metavar="F",
        help="Exit with 3 when more than this share of a stage's inputs is rejected.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="URL", help="A folder or file of logs; may be repeated."),
]
Format = Annotated[str | None, typer.Option("--format", help="Take every input for this format.")]
Dbc = Annotated[
    list[str] | None,
    typer.Option("--dbc", metavar="URL", help="A CAN database for raw bus frames; repeatable."),
]
InputTimeout = Annotated[
    float | None,
    typer.Option(
        "--input-timeout",
        metavar="S",
        help="An input that takes longer becomes a reject, and the next run tries it again.",
    ),
]
Channels = Annotated[
    bool | None, typer.Option("--channels", help="Keep native samples in the table channels.")
]
Triggers = Annotated[
    list[str] | None,
    typer.Option("--triggers", metavar="DIR", help="A folder of trigger .toml files; repeatable."),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--models", metavar="NAME", help="A label model; repeatable."),
]
ModelDirs = Annotated[
    list[str] | None,
    typer.Option("--models-dir", metavar="DIR", help="A folder of model .toml files; repeatable."),
]
Privacy = Annotated[
    str | None,
    typer.Option("--privacy", help="blur faces and plates (the default), or none."),
]
LabelFps = Annotated[
    float | None,
    typer.Option("--label-fps", metavar="F", help="Labelled frames a second of an event."),
]
TopologyName = Annotated[
    str | None, typer.Option("--topology", metavar="NAME", help="The machine to plan for.")
]
TopologyDirs = Annotated[
    list[str] | None,
    typer.Option(
        "--topologies", metavar="DIR", help="A folder of topology .toml files; repeatable."
    ),
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="SQL", help="Condition over the columns of the selection."),
]
Payload = Annotated[
    str | None, typer.Option("--payload", help="What samples carry: clip or frames.")
]
ValFraction = Annotated[
    float | None,
    typer.Option("--val-fraction", metavar="F", help="Share of drives that go to val."),
]
