"""Secrets: none that is part of a URL, or of the environment, is stored, logged or printed."""

from __future__ import annotations

import gzip
import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from jobs.cli import COMMANDS, SUMMARIES
from pipeline.config import SECTIONS
from pipeline.lake.tables import Lake
from schemas.tables import TABLES
from tests.conftest import Finished, Fleetmill
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call
from tests.web import PASSWORD, USER, Web, serving_folder

SECRET = PASSWORD
URLS = (
    f"http://{USER}:{SECRET}@127.0.0.1:9/drives",
    f"https://{SECRET}@127.0.0.1:9/drives",
    f"http://127.0.0.1:9/drives/a.mp4?X-Amz-Credential=x&X-Amz-Signature={SECRET}",
    f"http://127.0.0.1:9/drives#access_token={SECRET}",
    f"s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@bucket/drives",
    f"abfs://container@account.dfs.core.windows.net/drives?sv=2024&sig={SECRET}",
    f"simplecache::https://{USER}:{SECRET}@127.0.0.1:9/drives",
    f"filecache::zip://a.mp4::https://127.0.0.1:9/drives.zip?token={SECRET}",
    f"sftp://{USER}:{SECRET}@127.0.0.1/drives",
    f"HTTP://{USER}:p w/{SECRET}@127.0.0.1:9/drives",
)

OTHER = {"kind": "formats"}
"""The values of what must be given and takes no path."""

Parameter = tuple[str, str]
"""A command, and one of its flags or arguments that takes text."""


def made(command: str) -> Any:
    """The command as typer makes it."""
    app = typer.Typer(add_completion=False)
    app.command(command)(COMMANDS.load(command))
    return typer.main.get_command(app)


def takes_text(command: str, name: str) -> bool:
    """Tells whether the value of a parameter of a command's function is text."""
    declared = inspect.signature(COMMANDS.load(command), eval_str=True).parameters[name].annotation
    kind = str(get_args(declared)[0] if get_args(declared) else declared)
    return "str" in kind and "enum" not in kind


def parameters() -> list[Parameter]:
    """Every flag and argument of every command whose value is text."""
    return [
        (command, parameter.opts[0])
        for command in SUMMARIES
        for parameter in made(command).params
        if takes_text(command, parameter.name)
    ]


def arguments(command: str, chosen: str, url: str, folder: Path) -> list[str]:
    """A command line with a URL as the value of one parameter; of the others what must be."""
    words = command.split()
    for parameter in made(command).params:
        name = parameter.opts[0]
        value = url if name == chosen else OTHER.get(name, f"{folder}/{name}")
        if name == chosen or parameter.required:
            words += [f"{name}={value}"] if name.startswith("-") else [value]
    return words


def contents(folder: Path) -> bytes:
    """Names and bytes of all files, and the rows of Parquet files, which are compressed."""
    whole = b""
    for path in sorted(folder.rglob("*")):
        whole += str(path).encode()
        if path.is_file():
            content = path.read_bytes()
            whole += gzip.decompress(content) if path.suffix == ".results" else content
    if (folder / "tables").is_dir():
        lake = Lake.open(str(folder))
        whole += b"".join(str(lake.read(table).to_pylist()).encode() for table in TABLES)
    return whole


def shows(done: Finished) -> bool:
    """Tells whether a command printed the secret."""
    return SECRET in done.out or SECRET in done.err


def test_the_flags_that_take_urls_are_among_those_tried() -> None:
    tried = set(parameters())
    for flag in (
        "--input",
        "--lake",
        "--dbc",
        "--can-maps",
        "--topic-maps",
        "--triggers",
        "--models-dir",
    ):
        assert ("run", flag) in tried
    for other in (("plan", "corpus"), ("verify", "url"), ("synth", "out"), ("list", "--triggers")):
        assert other in tried
    assert len(tried) > 60


@pytest.mark.parametrize(("command", "flag"), parameters(), ids=str)
def test_a_secret_in_a_flag_is_refused_and_shown_nowhere(
    command: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, url in enumerate(URLS):
        extra = ["--debug"] if number % 2 else []
        done = call(*arguments(command, flag, url, tmp_path), *extra)
        assert done.code == 2, url
        assert not shows(done), url
        *before, line = done.err.splitlines()
        assert line.startswith(f"fleetmill: {flag} "), line
        assert "credentials into" in line
        assert bool(before) == bool(extra)
    assert SECRET.encode() not in contents(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("{url}",),
        ("ingest", "--inptu", "{url}"),
        ("ingest", "--lake", "L", "--input", "x", "{url}"),
        ("label", "--lake", "L", "--label-fps", "{url}"),
        ("query", "--lake", "{lake}", "SELECT '{url}' + 1 FROM"),
        ("list", "{url}"),
        ("mine", "--lake", "{lake}", "--", "--runner={url}"),
        ("mine", "--lake", "{lake}", "--", "--direct_num_workers={url}"),
    ],
)
def test_a_secret_in_a_wrong_place_is_not_shown(chain: Chain, words: tuple[str, ...]) -> None:
    for url in URLS:
        for extra in ([], ["--debug"]):
            line = [*extra, *(word.format(url=url, lake=chain.lake) for word in words)]
            done = call(*line)
            assert done.code == 2, done.err
            assert not shows(done), done.err


KEYS = [
    (section, key)
    for section, model in SECTIONS.items()
    for key, field in model.model_fields.items()
    if "str" in str(field.annotation) or "Literal" in str(field.annotation)
]


@pytest.mark.parametrize(("section", "key"), KEYS, ids=str)
def test_a_secret_in_a_configuration_file_is_refused(
    section: str, key: str, tmp_path: Path
) -> None:
    required = ("first",) if section == "corpus" else ()
    model = SECTIONS[section]
    for url in URLS:
        value = [url] if "tuple" in str(model.model_fields[key].annotation) else url
        (tmp_path / "c.toml").write_text(f"[{section}]\n{key} = {json.dumps(value)}\n")
        command = section.split("_")
        words = [*command, *(() if key == "name" else required), "--lake", tmp_path / "lake"]
        if key == "name":
            words.insert(1, "ok")
        done = call(*words, "--config", tmp_path / "c.toml", "--debug")
        assert not shows(done), done.err
        if key not in {"name", "params"}:  # a flag goes before the file
            assert done.code == 2
            assert f"[{section}] {key}" in done.err.splitlines()[-1]
    assert not (tmp_path / "lake").exists()


MODEL = """
name = "mine"
family = "yolox"
url = "{url}"
sha256 = "{sha256}"
licence = "none"
file = "mine.onnx"
width = 416
height = 416
score_threshold = 0.1
nms_iou = 0.5
classes = ["a"]
"""


def test_the_address_of_weights_may_hold_a_secret_that_is_not_shown(
    chain: Chain, tmp_path: Path
) -> None:
    """Only that of a model's file, which is neither stored nor given to a job."""
    text = MODEL.format(url=URLS[0] + "?sig=" + SECRET, sha256="0" * 64)
    (tmp_path / "mine.toml").write_text(text)
    lake = tmp_path / "lake"
    shutil.copytree(chain.lake, lake)
    models = ("--models-dir", tmp_path, "--models", "mine")
    for extra in ([], ["--debug"]):
        done = call("label", "--lake", lake, *models, *extra)
        assert done.code == 2, done.err
        assert not shows(done), done.err
        assert not shows(call("list", "models", "--models-dir", tmp_path, *extra))
    (tmp_path / "mine.toml").write_text(text + "famliy = 1\n")
    done = call("list", "models", "--models-dir", tmp_path)
    assert "famliy" in done.err
    assert not shows(done)
    assert SECRET.encode() not in contents(lake)


@pytest.fixture
def web(chain: Chain, tmp_path: Path) -> Iterator[Web]:
    """Two drives behind a login."""
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    with serving_folder(chain.fleet) as started:
        started.login = True
        yield started


def test_a_fleet_behind_a_login_goes_through_every_job(
    web: Web, chain: Chain, tmp_path: Path, fleetmill: Fleetmill
) -> None:
    """With the login in ~/.netrc; later jobs open the videos again by their stored addresses.

    Every listing has a link that is signed: a reject without the secret.
    """
    web.listing = f'<a href="signed.mp4?token={SECRET}">signed</a>'
    env = {
        "NETRC": str(tmp_path / "netrc"),
        "AWS_ACCESS_KEY_ID": f"AKIA{SECRET}",
        "AWS_SECRET_ACCESS_KEY": f"secret-{SECRET}",
        "AWS_SESSION_TOKEN": f"session-{SECRET}",
    }
    lake = tmp_path / "lake"
    words = ["run", "--input", web.url, "--lake", lake, "--sweep-fps", 0.5, "--label-fps", 1]
    words += ("--corpus", "first", "--topology", "dojo-tray", "--max-reject-fraction", 1)
    done = fleetmill(*words, "--debug", "--json", **env)
    assert done.code == 0, done.err
    assert not shows(done), done.err
    opened = Lake.open(str(lake))
    for table in ("logs", "events", "parts"):
        expected = Lake.open(str(chain.lake)).read(table).num_rows
        assert opened.read(table).num_rows == expected > 0
    assert all(uri.startswith(web.url) for uri in opened.read("videos")["uri"].to_pylist())
    rejects = opened.read("rejects").to_pylist()
    assert {row["reason"] for row in rejects} == {"unsupported"}
    assert all(row["uri"].endswith("/signed.mp4") for row in rejects)
    assert SECRET.encode() not in contents(lake)


@pytest.mark.parametrize("extra", [[], ["--debug"]])
def test_a_wrong_login_is_said_without_it(
    web: Web, tmp_path: Path, fleetmill: Fleetmill, extra: list[str]
) -> None:
    header = f'{{"headers": {{"Authorization": "Bearer {SECRET}"}}}}'
    lake = tmp_path / "lake"
    words = ("ingest", "--input", web.url, "--lake", lake, *extra)
    done = fleetmill(*words, FSSPEC_HTTP=header, NETRC="/dev/null")
    assert done.code == 3, done.err
    assert "the server says 401" in done.err
    assert not shows(done)
    assert SECRET.encode() not in contents(lake)


def test_a_run_is_the_same_whatever_the_credentials_are(
    web: Web, tmp_path: Path, fleetmill: Fleetmill
) -> None:
    header = json.dumps({"headers": {"Authorization": "Basic am9lOmh1bnRlcjI="}})
    ids: list[str] = []
    for env in ({"NETRC": str(tmp_path / "netrc")}, {"FSSPEC_HTTP": header, "NETRC": "/dev/null"}):
        lake = tmp_path / f"lake{len(ids)}"
        done = fleetmill("ingest", "--input", web.url, "--lake", lake, "--json", **env)
        assert done.code == 0, done.err
        ids.append(done.document["jobs"][0]["run_id"])
    assert ids[0] == ids[1]
