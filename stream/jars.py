"""Kafka's jars and the Java that runs them.

Owns finding (or, as root on Debian, installing) Java and Maven, and a folder with exactly the jars
that deploy/kafka/pom.xml resolves to. Promises that a folder it returns is complete: jars are
fetched beside it and renamed into place, and a changed pom fetches them again. Running a broker
from them is stream.broker's part.
"""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from .errors import StreamError

log = structlog.get_logger(__name__)

POM = Path(__file__).resolve().parents[1] / "deploy" / "kafka" / "pom.xml"

# What Kafka 4 brokers are compiled for.
JAVA_MAJOR = 17

# The default Java is 17 on Debian 12 and 21 on Debian 13, which has no 17.
DEBIAN_PACKAGES = {"java": "default-jre-headless", "mvn": "maven"}


class ToolMissing(StreamError):
    """Java or Maven is not there and could not be installed; the operator installs it."""

    retriable = False


class JarsUnavailable(StreamError):
    """Maven could not fetch Kafka's jars; a later try may reach the repository."""

    retriable = True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` among processes and threads; a killed holder frees it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def java() -> str:
    """The Java executable: JAVA_HOME's, else the PATH's, else one installed now.

    Raises:
        ToolMissing: no Java of version 17 or newer, and no way to install it here.
    """
    home = os.environ.get("JAVA_HOME")
    executable = str(Path(home) / "bin" / "java") if home else _tool("java")
    try:
        answer = subprocess.run([executable, "-version"], capture_output=True, text=True)
    except OSError as error:
        raise ToolMissing(f"{executable}: {error.strerror}; correct JAVA_HOME") from error
    # "17.0.15", "21", and before Java 9 "1.8.0_392".
    found = re.search(r'version "(\d+)', answer.stderr)
    if found is None or int(found[1]) < JAVA_MAJOR:
        version = answer.stderr.strip().partition("\n")[0] or "no version"
        raise ToolMissing(
            f"{executable} says {version!r}; Kafka needs Java {JAVA_MAJOR} or newer: install it "
            f"(Debian: apt-get install {DEBIAN_PACKAGES['java']}) or point JAVA_HOME at it"
        )
    return executable


def install_jars(folder: Path) -> Path:
    """Fill `folder` with the jars of deploy/kafka/pom.xml, once; return it.

    Raises:
        ToolMissing: jars are missing and so is Maven.
        JarsUnavailable: Maven failed; its last lines are in the message.
    """
    pom = POM.read_bytes()
    stamp = folder / POM.name  # the pom that these jars came from
    with locked(folder.with_name(f".{folder.name}.lock")):
        if stamp.is_file() and stamp.read_bytes() == pom:
            return folder
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            staged = Path(scratch) / "lib"
            _copy_dependencies(staged)
            (staged / POM.name).write_bytes(pom)
            if folder.exists():
                shutil.rmtree(folder)
            staged.rename(folder)
    log.info("kafka_jars_installed", folder=str(folder), jars=len(list(folder.glob("*.jar"))))
    return folder


def _copy_dependencies(folder: Path) -> None:
    log.info("kafka_jars_fetching", pom=str(POM))
    done = subprocess.run(
        [
            *(_tool("mvn"), "--batch-mode", "--quiet", "--no-transfer-progress"),
            *("-Dstyle.color=never", f"--file={POM}", "dependency:copy-dependencies"),
            *("-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-5:])
        raise JarsUnavailable(f"Maven exited with {done.returncode} on {POM}:\n{tail}")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_install(DEBIAN_PACKAGES[name])
        found = shutil.which(name)
    if found is None:
        raise ToolMissing(
            f"{name} is not installed, and the local Kafka needs it; install Java {JAVA_MAJOR} or "
            f"newer and Maven (Debian: apt-get install {' '.join(DEBIAN_PACKAGES.values())}), "
            "or use a running Kafka with --bootstrap HOST:PORT"
        )
    return found


def _apt_install(package: str) -> None:
    log.info("apt_installing", package=package)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    # A fresh machine has no package lists, or lists too old to install from.
    for command in (install, ["apt-get", "update"], install):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if command is install and done.returncode == 0:
            return
    raise ToolMissing(f"apt-get install {package} failed: {done.stderr.strip()[-500:]}")
