"""Fetches the runners and servers for the slower tests, by their package names, and caches them.

Flink is a Python package of jars, Beam's runners come from Maven, Prism and the object store from
Go, Label Studio has an environment of its own, and the workers' environment holds the wheel of this
project and its dependencies. The cache is outside the repository; its folders are named by a digest
of their inputs. Run as a program, with the name of a target of the Makefile, it checks that the
programs are installed that the target fetches its parts with; Chromium it installs itself where it
may.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.conftest import ROOT
from tests.dockerfile import instructions

FLINK = os.environ.get("FLEETMILL_FLINK", "apache-flink-libraries==1.19.3")
OPERATOR_API = "org.apache.flink:flink-kubernetes-operator-api:1.10.0"
"""Holds the schemas of the operator's custom resources."""
PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
"""An S3 server over a folder."""
LABEL_STUDIO = "label-studio==1.23.2"

DEPLOY = ROOT / "deploy"
PINS = ROOT / "constraints.txt"

PROGRAMS = {
    "javac": "Java 17 is missing: install it, e.g. `apt-get install openjdk-17-jdk-headless`",
    "mvn": "Maven is missing: install it, e.g. `apt-get install maven`",
    "go": "Go is missing: install it, e.g. `apt-get install golang`",
    "chromium": "Chromium is missing: install it, e.g. `apt-get install chromium`",
}

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Names of the program of a browser that the tests can use."""

TARGETS: dict[str, tuple[str, ...]] = {
    "flink-test": ("javac", "mvn"),
    "s3-test": ("go",),
    "review-test": (),
}
"""The programs that each target of the Makefile needs."""


class MissingProgramError(Exception):
    """A program that is needed for fetching is not installed."""


def need(*programs: str) -> None:
    """Checks that programs are installed.

    Raises:
        MissingProgramError: one is not; the message says what to install.
    """
    missing = [PROGRAMS[name] for name in programs if shutil.which(name) is None]
    if missing:
        raise MissingProgramError("; ".join(missing))


@dataclass(frozen=True, slots=True)
class FlinkParts:
    """The folder for `/opt/flink/lib` of our image, and the workers' environment."""

    lib: Path
    worker: Path


def flink_parts() -> FlinkParts:
    """Returns what a cluster needs, fetching what is not cached.

    Raises:
        MissingProgramError: Java or Maven is not installed.
        RuntimeError: a command failed; the message ends with its output.
    """
    need(*TARGETS["flink-test"])
    with ThreadPoolExecutor() as pool:
        lib, home = pool.submit(flink_image), pool.submit(worker)
        return FlinkParts(lib.result(), home.result())


def flink() -> Path:
    """Returns a folder of Flink's own jars."""

    def fill(folder: Path) -> None:
        run(folder, sys.executable, "-m", "pip", "install", "--target", folder, FLINK)

    return cached("flink", (FLINK,), fill) / "pyflink" / "lib"


def flink_image() -> Path:
    """Builds `/opt/flink/lib` of our Flink image with the commands of its Dockerfile."""
    files = [DEPLOY / "flink" / name for name in ("Dockerfile", "pom.xml", "JobServer.java")]

    def fill(folder: Path) -> None:
        build = folder / "build"
        build.mkdir()
        for instruction, value in instructions(files[0]):
            if instruction == "RUN":
                run(folder, "sh", "-ec", f"cd {build}\n{value.replace('/build', str(build))}")
            elif instruction == "COPY" and not value.startswith("--from"):
                for name in value.split()[:-1]:
                    shutil.copy(files[0].with_name(name), build)
        lib = folder / "lib"
        lib.mkdir()
        for jar in [*flink().glob("*.jar"), *(build / "lib").glob("*.jar")]:
            (lib / jar.name).symlink_to(jar)

    return cached("flink-image", (FLINK, *(f.read_text() for f in files)), fill) / "lib"


def spark() -> Path:
    """Returns a folder with the jars of `deploy/spark/pom.xml`."""
    pom = DEPLOY / "spark" / "pom.xml"

    def fill(folder: Path) -> None:
        run(folder, *_MAVEN, "-f", pom, *_COPY, f"-DoutputDirectory={folder}")

    return cached("spark", (pom.read_text(),), fill)


def operator_api() -> Path:
    """Returns the jar with the operator's schemas."""

    def fill(folder: Path) -> None:
        copy = "org.apache.maven.plugins:maven-dependency-plugin:copy"
        run(folder, *_MAVEN, copy, f"-Dartifact={OPERATOR_API}", f"-DoutputDirectory={folder}")

    (jar,) = cached("operator", (OPERATOR_API,), fill).glob("*.jar")
    return jar


def prism() -> Path:
    """Builds Beam's Prism in the version of the Python SDK."""
    return _go_program("prism", f"{PRISM}@v{version('apache-beam')}")


def versitygw() -> Path:
    """Builds the S3 server."""
    return _go_program("versitygw", VERSITYGW)


def _go_program(name: str, release: str) -> Path:
    """Builds a program of a Go module, given as PATH@VERSION."""
    need("go")

    def fill(folder: Path) -> None:
        run(folder, "env", f"GOBIN={folder}", "GOFLAGS=-mod=mod", "go", "install", release)

    return cached(name, (release,), fill) / name


def label_studio() -> Path:
    """Returns the folder of the programs of an environment with Label Studio.

    It has one of its own, because it pins versions of what the project uses too.
    """

    def fill(folder: Path) -> None:
        run(folder, sys.executable, "-m", "venv", folder)
        run(folder, folder / "bin" / "python", "-m", "pip", "install", LABEL_STUDIO)

    return cached("label-studio", (sys.version, LABEL_STUDIO), fill) / "bin"


def label_studio_database(*arguments: str) -> Path:
    """Returns the data of a Label Studio without projects, which takes half a minute to make.

    Args:
        arguments: those of `label-studio init`, which say whom it creates.
    """
    program = label_studio() / "label-studio"

    def fill(folder: Path) -> None:
        run(folder, program, "init", "--quiet", "--data-dir", folder, *arguments)

    return cached("label-studio-data", (sys.version, LABEL_STUDIO, *arguments), fill)


def chromium() -> Path:
    """Returns the program of Chromium; as root on Debian it is installed if there is none.

    Raises:
        MissingProgramError: there is none, and it cannot be installed.
        RuntimeError: installing it failed three times; the message ends with the output.
    """
    with _locked(_parts() / "chromium.lock"):
        found = _browser()
        if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
            _apt_install("chromium", "fonts-dejavu-core")
            found = _browser()
    if found is None:
        raise MissingProgramError(PROGRAMS["chromium"])
    return found


def _browser() -> Path | None:
    return next((Path(path) for name in BROWSERS if (path := shutil.which(name))), None)


def _apt_install(*packages: str) -> None:
    """Installs packages of Debian; mirrors fail now and then, so it is tried three times."""
    apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", _WAIT)
    for last in (False, False, True):
        try:
            run(Path("/"), *apt, "update")
            run(Path("/"), *apt, "install", "-y", "--no-install-recommends", *packages)
        except RuntimeError:
            if last:
                raise
        else:
            return


def dataflow() -> Path:
    """Returns the Python of an environment with Beam's Dataflow runner and the project."""

    def fill(folder: Path) -> None:
        run(folder, sys.executable, "-m", "venv", folder)
        pip = (folder / "bin" / "python", "-m", "pip", "install", "-c", PINS)
        with tempfile.TemporaryDirectory() as temporary:
            run(folder, *pip, build_wheel(Path(temporary)), "apache-beam[gcp]")

    made_of = (sys.version, PINS.read_text(), (ROOT / "pyproject.toml").read_text())
    return cached("dataflow", made_of, fill) / "bin" / "python"


def worker() -> Path:
    """Returns an environment with the wheel of the current source and its dependencies.

    The dependencies are cached; the wheel is built and installed each time.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))

        def fill(home: Path) -> None:
            run(home, sys.executable, "-m", "venv", home)
            run(home, home / "bin" / "python", "-m", "pip", "install", "-c", PINS, wheel)

        made_of = (sys.version, PINS.read_text(), (ROOT / "pyproject.toml").read_text())
        home = cached("worker", made_of, fill)
        pip = (home / "bin" / "python", "-m", "pip", "install")
        run(home, *pip, "--force-reinstall", "--no-deps", wheel)
    return home


def build_wheel(folder: Path) -> Path:
    """Builds the project's wheel from a copy of the files that git does not ignore."""
    source = folder / "source"
    copy_source(source)
    # Not isolated: a test must not depend on a download for what the environment has.
    command = ("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    run(folder, sys.executable, *command)
    (wheel,) = folder.glob("fleetmill-*.whl")
    return wheel


def copy_source(folder: Path) -> None:
    """Copies the current source, without ignored files such as those of an earlier build."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(lambda name: (ROOT / name).is_file(), listed.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def cached(name: str, made_of: tuple[str, ...], fill: Callable[[Path], None]) -> Path:
    """Returns a cached folder, filled by `fill` if it is new; one process at a time fills it.

    Args:
        name: the start of the folder's name.
        made_of: the inputs; other inputs give another folder.
        fill: fills an empty folder.
    """
    digest = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:12]
    folder = _parts() / f"{name}-{digest}"
    complete = folder.with_suffix(".whole")
    with _locked(folder.with_suffix(".lock")):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            fill(folder)
            complete.touch()
    return folder


def _parts() -> Path:
    """Returns the folder of the cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "fleetmill" / "test-parts"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other processes out of the block by a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(folder: Path, *command: object) -> None:
    """Runs a command in a folder.

    Raises:
        RuntimeError: it failed; the message ends with its output.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{tail}")


_WAIT = "DPkg::Lock::Timeout=300"
"""For another program that installs packages, in s."""
_MAVEN = ("mvn", "-B", "-q")
_COPY = ("dependency:copy-dependencies", "-DincludeScope=runtime")


if __name__ == "__main__":
    (target,) = sys.argv[1:]
    try:
        need(*TARGETS[target])
        if target == "review-test":
            chromium()
    except (MissingProgramError, RuntimeError) as error:
        sys.exit(f"{target}: {error}")
