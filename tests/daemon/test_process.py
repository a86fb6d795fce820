"""A worker's process, without starting one."""

from pathlib import Path

from daemon.process import write_config
from daemon.settings import load
from stream.settings import Kafka


def test_a_written_configuration_is_read_as_it_was_meant(tmp_path: Path) -> None:
    more = {
        "kafka": {"group": 'named "so"', "unreachable_s": 0.5},
        "snapshot": {"keep": 2},
        "impressions": {"share": 1},
    }
    folder = tmp_path / "a folder"
    settings = load(write_config(tmp_path / "w.toml", Kafka("h:1", "p-"), "w", folder, more))
    assert (settings.kafka.bootstrap, settings.kafka.prefix) == ("h:1", "p-")
    assert (settings.kafka.group, settings.kafka.unreachable_s) == ('named "so"', 0.5)
    assert (settings.worker.id, settings.worker_folder) == ("w", folder / "w")
    assert (settings.worker.port, settings.worker.log_format) == (0, "json")
    assert (settings.snapshot.keep, settings.impressions.share) == (2, 1.0)
