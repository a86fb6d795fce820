"""A small data set that is nothing like the packaged one: a news site that promotes its stories.

Owns the files as such a site would have them: names, types and units of its own, ids as it likes,
readers instead of households. What is planted: a reader opens stories of two desks, and on a phone
short ones. A `news.toml` beside the files is all that Headwater needs to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MAP = """
period_days = 7

[schema]
item_fields = ["story", "section", "desk", "writer", "length"]
profile_fields = ["country", "age_group"]
context_fields = ["device", "hour", "weekday"]
actions = ["open", "share"]

[schema.derived.section]
from = "topic"
path = 1

[schema.derived.desk]
from = "topic"
path = 2

[schema.derived.length]
from = "words"
bands = [400, 1000]

[schema.derived.age_group]
from = "born"
bands = [1960, 1980, 2000]

[schema.derived.hour]
clock = "hour"
zone = "Europe/Berlin"

[schema.derived.weekday]
clock = "weekday"
zone = "Europe/Berlin"

[files.events]
files = "opens/*.parquet"
user_id = "reader"
time = "at"
action = "what"
value = "seconds"
fields = {story = "article"}

[files.users]
files = "readers.parquet"
user_id = "reader"

[files.ads]
files = "promotions.parquet"
ad_id = "promotion"
start = "shown_from"
end = "shown_to"
unit = "s"
fields = {story = "article"}

[files.impressions]
files = "views.parquet"
user_id = "reader"
time = "at"
visit_id = "view"
ad_id = "promotion"
engage = "opened"
consume = "finished"
"""

START_S = 1_709_251_200  # Friday 2024-03-01
WEEK_S = 7 * 86_400
READERS, STORIES, WEEKS, SHOWN = 60, 48, 6, 8
DESKS = ("world/europe", "world/asia", "sport/football", "sport/chess", "arts/film", "arts/books")
NOW_MS = (START_S + WEEKS * WEEK_S) * 1000


@dataclass(frozen=True)
class NewsSite:
    """What was planted.

    Attributes:
        map: the column map, beside its files.
        likes: the two desks of each reader.
        desks: of each promotion.
        words: of each promotion's story.
    """

    map: Path
    likes: dict[int, set[str]]
    desks: dict[int, str]
    words: dict[int, int]


def write(folder: Path, seed: int = 0) -> NewsSite:
    """Write the files of a site."""
    draw = np.random.default_rng(seed)
    desks = [DESKS[story % len(DESKS)] for story in range(STORIES)]
    words = (100 + draw.integers(0, 1500, STORIES)).tolist()
    readers = range(1_000, 1_000 + READERS)
    likes = {reader: draw.choice(len(DESKS), 2, False).tolist() for reader in readers}
    stories = {
        "article": [f"story-{story}" for story in range(STORIES)],
        "topic": [f"{desk}/daily" for desk in desks],
        "words": words,
        "writer": [None if story % 9 == 0 else f"w{story % 13}" for story in range(STORIES)],
    }
    opens: list[tuple[int, int, str, float, int]] = []
    views: list[tuple[int, int, int, int, str, bool, bool]] = []
    for reader, liked in likes.items():
        for view in range(WEEKS * 4):
            at = START_S + int((view + draw.random()) * WEEK_S / 4)
            device = str(draw.choice(["phone", "desktop"]))
            for story in draw.choice(STORIES, SHOWN, False).tolist():
                wanted = 0.7 if story % len(DESKS) in liked else 0.03
                if device == "phone" and words[story] > 1000:
                    wanted *= 0.3
                opened = bool(draw.random() < wanted)
                finished = opened and bool(draw.random() < 0.5)
                views.append((len(views) // SHOWN, reader, at, story, device, opened, finished))
                if opened:
                    seconds = float(words[story]) / (4 if finished else 12)
                    opens.append((reader, at + 30, "open", seconds, story))
    opens.sort(key=lambda row: row[1])
    _write_opens(folder / "opens", opens, stories)
    pq.write_table(
        pa.table(
            {
                "reader": pa.array(readers, pa.uint32()),
                # Each country reads one section more than others do.
                "country": [f"c{min(likes[reader]) // 2}" for reader in readers],
                "born": [None if reader % 7 == 0 else 1950 + reader % 60 for reader in readers],
                "newsletter": [True] * READERS,
            }
        ),
        folder / "readers.parquet",
    )
    ends = [None if story % 2 else START_S + 2 * WEEKS * WEEK_S for story in range(STORIES)]
    pq.write_table(
        pa.table(
            {
                "promotion": pa.array(range(STORIES), pa.int32()),
                "shown_from": [START_S] * STORIES,
                "shown_to": pa.array(ends, pa.int64()),
                **stories,
            }
        ),
        folder / "promotions.parquet",
    )
    columns = list(zip(*views, strict=True))
    pq.write_table(
        pa.table(
            {
                "view": columns[0],
                "reader": columns[1],
                "at": pa.array([at * 1000 for at in columns[2]], pa.timestamp("ms", "UTC")),
                "promotion": columns[3],
                "device": columns[4],
                "opened": columns[5],
                "finished": columns[6],
            }
        ),
        folder / "views.parquet",
    )
    path = folder / "news.toml"
    path.write_text(MAP)
    return NewsSite(
        path,
        {reader: {DESKS[desk] for desk in liked} for reader, liked in likes.items()},
        dict(enumerate(desks)),
        dict(enumerate(words)),
    )


def _write_opens(
    folder: Path, opens: list[tuple[int, int, str, float, int]], stories: dict[str, list]
) -> None:
    """In two files, as a site writes one after another."""
    folder.mkdir(parents=True)
    half = len(opens) // 2
    for number, rows in enumerate((opens[:half], opens[half:])):
        reader, at, what, seconds, story = zip(*rows, strict=True)
        table = pa.table(
            {
                "reader": reader,
                "at": pa.array([second * 1_000_000 for second in at], pa.timestamp("us")),
                "what": what,
                "seconds": seconds,
                **{name: [values[at] for at in story] for name, values in stories.items()},
            }
        )
        pq.write_table(table, folder / f"part-{number}.parquet")
