"""The supervisor's log: a line for each event, one supervisor at a time, and nothing in vain."""

import json
from pathlib import Path

import pytest

from dist_vgg.base.errors import UserError
from dist_vgg.recovery.event_log import EventLog


def test_an_event_is_a_line_and_its_log_has_one_writer(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    with pytest.raises(UserError, match=r"another dist_vgg\.elastic is at work in"):
        EventLog(tmp_path)
    (tmp_path / "config.json").touch()
    log.write("start", ranks=3)
    log.close()
    (event,) = map(json.loads, (tmp_path / "elastic.jsonl").read_text().splitlines())
    assert (event["event"], event["ranks"]) == ("start", 3)
    assert event["time"] > 1e9


def test_a_folder_in_which_no_run_began_is_removed(tmp_path: Path) -> None:
    EventLog(tmp_path / "runs" / "one").close()
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]
