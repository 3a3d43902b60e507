"""Web servers, real ones on this machine: files, ranges, listings, logins, and what they refuse."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from schemas.errors import StoreError
from tests.conftest import ROOT, environment
from tests.web import PASSWORD, USER, Web, serving_folder
from transforms.storage import filesystem, get

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A folder with one file in it and one in a folder of it, served without a login."""
    (tmp_path / "netrc").touch()
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "served" / "in").mkdir(parents=True)
    (tmp_path / "served" / "a.mp4").write_bytes(CONTENT)
    (tmp_path / "served" / "in" / "b c.mp4").write_bytes(CONTENT[:9])
    with serving_folder(tmp_path / "served") as started:
        yield started
    fsspec.get_filesystem_class("http").clear_instance_cache()


def test_files_and_ranges_of_them_are_read(web: Web) -> None:
    url = f"{web.url}/a.mp4"
    assert get(url) == CONTENT
    assert get(url, 3, 300) == CONTENT[3:300]
    assert get(url, 10_000) == CONTENT[10_000:]
    assert get(url, 10_200, 99_999) == CONTENT[10_200:]
    assert get(url, 99_999, 100_000) == b""
    fs, path = filesystem(url)
    with fs.open(path, mode="rb", block_size=64, cache_type="readahead") as file:
        file.seek(5000)
        assert file.read(10) == CONTENT[5000:5010]
        assert file.seek(0, 2) == len(CONTENT)


def test_a_listing_has_sizes_and_marks(web: Web) -> None:
    fs, root = filesystem(web.url)
    found = fs.find(root, detail=True)
    sizes = {name.removeprefix(root): entry["size"] for name, entry in found.items()}
    assert sizes == {"/a.mp4": len(CONTENT), "/in/b c.mp4": 9}
    assert all(entry["ETag"] for entry in found.values())


def test_a_listing_stays_in_its_folder(web: Web) -> None:
    """Links to elsewhere, to the folder above and to the folder in another order are none."""
    web.listing = """<a href="../">up</a> <a href="../../etc/x.mp4">x</a>
        <a href="?C=N;O=D">sort</a> <a href="/other.mp4">root</a> <a href="%2e%2e/y.mp4">y</a>
        <a href="#top">top</a>
        <a href="http://elsewhere/z.mp4">z</a> <a href="./">here</a>"""
    fs, root = filesystem(f"{web.url}/in")
    assert [name.removeprefix(root) for name in fs.find(root)] == ["/b c.mp4"]


def test_a_folder_that_links_itself_ends(web: Web) -> None:
    web.listing = '<a href="again/">again</a> <a href="gone/">a link to nowhere</a>'
    (web.folder / "again").symlink_to(web.folder)
    fs, root = filesystem(f"{web.url}/in")
    assert len(fs.find(root)) == 1
    fs, root = filesystem(web.url)
    shutil.rmtree(web.folder / "in")
    assert 1 < len(fs.find(root)) <= 67, "Linux follows 40 links of a path"


def test_a_folder_that_cannot_be_listed_is_not_left_out(web: Web) -> None:
    web.answers["/in/"] = 403
    fs, root = filesystem(web.url)
    with pytest.raises(StoreError, match="the server says 403"):
        fs.find(root)


def test_a_refusal_is_one_line_that_says_what_to_do(web: Web) -> None:
    web.login = True
    fs, root = filesystem(f"{web.url}/a.mp4")
    for ask in (fs.info, fs.cat_file, fs.find, lambda path: fs.open(path, mode="rb")):
        with pytest.raises(StoreError, match=r"401.*put user and password into ~") as refusal:
            ask(root)
        assert "\n" not in str(refusal.value)


def test_a_server_that_fails_is_no_absent_file(web: Web) -> None:
    web.answers["/a.mp4"] = 503
    fs, path = filesystem(f"{web.url}/a.mp4")
    for ask in (fs.info, fs.cat_file):
        with pytest.raises(StoreError, match="the server says 503"):
            ask(path)
    with pytest.raises(FileNotFoundError):
        fs.info(f"{web.url}/none.mp4")
    with pytest.raises(StoreError, match="check the address and the network"):
        get("http://127.0.0.1:9/a.mp4")


def test_a_server_without_ranges_is_said(web: Web) -> None:
    """The head of a file is read all the same; to skip to its end could read a terabyte."""
    web.ranges = False
    assert get(f"{web.url}/a.mp4", 0, 100) == CONTENT[:100]
    assert get(f"{web.url}/a.mp4") == CONTENT
    with pytest.raises(StoreError, match="cannot send a part"):
        get(f"{web.url}/a.mp4", 100, 200)
    web.ranges, web.sizes = True, False
    fs, path = filesystem(f"{web.url}/a.mp4")
    with pytest.raises(StoreError, match="how large"):
        fs.open(path, mode="rb")


def test_a_login_is_taken_from_netrc(web: Web, tmp_path: Path) -> None:
    web.login = True
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    assert get(f"{web.url}/a.mp4", 0, 9) == CONTENT[:9]


@pytest.mark.parametrize(
    "configuration",
    [
        '{"headers": {"Authorization": "Basic am9lOmh1bnRlcjI="}}',
        '{"client_kwargs": {"headers": {"Authorization": "Basic am9lOmh1bnRlcjI="}}}',
    ],
)
@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_login_is_taken_from_the_configuration_of_fsspec(
    web: Web, tmp_path: Path, configuration: str, where: str
) -> None:
    """It is read when fsspec is imported, so by a process of its own."""
    web.login = True
    if where == "environment":
        env = {"FSSPEC_HTTP": configuration}
    else:
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "web.json").write_text(f'{{"http": {configuration}}}')
        env = {"FSSPEC_CONFIG_DIR": str(tmp_path / "conf")}
    program = "import sys; from transforms.storage import get; print(len(get(sys.argv[1], 5, 20)))"
    done = subprocess.run(
        [sys.executable, "-c", program, f"{web.url}/a.mp4"],
        cwd=ROOT,
        env=environment(**env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "15", done.stderr
