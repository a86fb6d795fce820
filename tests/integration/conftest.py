"""A real Kafka for the tests of this folder, and a name of its own for each of them."""

import subprocess
import sys
import tomllib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon import process
from stream.settings import Kafka

WriteConfig = Callable[..., Path]

ROOT = Path(__file__).resolve().parents[2]

# The broker lives as long as this process, which lives as long as its standard input is open: a
# test run that is killed leaves no broker behind.
BROKER = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from stream.broker import Broker

with TemporaryDirectory(prefix="headwater-kafka-") as home:
    broker = Broker(Path(home), lib=Path(sys.argv[1]))
    try:
        print(broker.start(), flush=True)
        sys.stdin.read()
    finally:
        broker.stop()
"""


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """The checkout's folder of Kafka's jars; a broker that starts fills it when it is empty."""
    return ROOT / ".headwater" / "kafka" / "lib"


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_jars: Path) -> Iterator[str]:
    """`host:port` of a Kafka that all tests of the run share."""
    with subprocess.Popen(
        [sys.executable, "-c", BROKER, str(kafka_jars)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        # Log lines, for example of jars being fetched, come before it.
        bootstrap = next((line for line in process.stdout if line.startswith("127.0.0.1:")), None)
        assert bootstrap is not None, "the broker did not start; its error is above"
        yield bootstrap.strip()
        process.communicate()


@pytest.fixture
def prefix() -> str:
    """A prefix for topics that no other test has."""
    return f"t{uuid.uuid4().hex[:8]}-"


@pytest.fixture
def kafka(kafka_bootstrap: str, prefix: str) -> Kafka:
    """The shared Kafka, seen through this test's own prefix."""
    return Kafka(kafka_bootstrap, prefix)


@pytest.fixture(scope="session")
def write_config() -> WriteConfig:
    """Writes a worker's configuration: its folder, its Kafka, and more sections as TOML."""

    def write(folder: Path, kafka: Kafka, more: str = "") -> Path:
        path = folder / f"{kafka.prefix}headwater.toml"
        worker_id = f"{kafka.prefix}worker"
        return process.write_config(path, kafka, worker_id, folder, tomllib.loads(more))

    return write
