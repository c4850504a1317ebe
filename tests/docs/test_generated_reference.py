"""The pages that the site's build makes of options, parsers and docstrings."""

import argparse
import re

import pytest
from generate.api import api, public_names
from generate.commands import all_commands, parser_of
from generate.docstrings import as_rst
from generate.markdown import prose, table, text
from generate.options import train_options
from generate.rooms import files, room_pages, room_table, rooms
from launcher import ROOT

from dist_vgg.__main__ import COMMANDS
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.fields import describe_options


def test_every_option_of_training_is_there() -> None:
    page = train_options()
    for one in describe_options(TrainConfig):
        assert len(re.findall(rf"{{option}} {one.flag}[ ,]", page)) == 1
    about = "Samples that each shard contributes to a step."
    assert f"````{{option}} --micro-batch N\n{about}\n\nDefault: `4`" in page
    assert "--audit, --no-audit\n" in page
    assert "`sgd`, `adam`, `adagrad`" in page


@pytest.mark.parametrize("command", COMMANDS.values())
def test_the_parser_of_each_command_is_found(command: str) -> None:
    parser = parser_of(command)
    assert isinstance(parser, argparse.ArgumentParser)
    assert parser.prog.startswith(f"python -m {command}")


def test_the_page_of_commands_has_all_options() -> None:
    page = all_commands()
    for command in COMMANDS.values():
        assert f"\n## {command.rpartition('.')[2]}\n" in page
    for words in (
        "--resume [yes|if-any]",
        "-n N",
        "--vary NAME=X,Y",
        "[WEIGHTS] IMAGE ...",
        "--step N",
    ):
        assert f"{{option}} {words}\n" in page
    assert "### bench step" in page
    assert "```{program} dist_vgg.bench step" in page
    assert "{option} --epochs" not in page  # it has a page with its like
    assert "{option} --help" not in page


def test_every_file_of_the_product_is_on_the_page_of_its_room() -> None:
    pages, summary = room_pages(), room_table()
    product = [*(ROOT / "dist_vgg").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]
    listed = [path for folder in rooms().values() for path in files(folder)]
    assert sorted(listed) == sorted(path for path in product if path.name != "__init__.py")
    for name, folder in rooms().items():
        page = pages[name.replace("_", "-").replace(".", "-")]
        for path in files(folder):
            assert f"## `{path.name}`" in page
            assert f"[`{path.name}`](#" in summary


def test_public_names_exist() -> None:
    page = api()
    assert public_names()
    for name in public_names():
        assert f":: dist_vgg.{name}\n" in page


def test_plain_text_stays_what_it_is() -> None:
    assert text("a*b_c <d> `x_y` [e]") == r"a\*b\_c \<d\> `x_y` \[e\]"
    assert text("a ` alone") == r"a \` alone"
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


def test_a_docstring_has_paragraphs_and_blocks() -> None:
    words = "One line.\n\npython -m x *\n\n    indented\n      more"
    assert prose(words) == (
        "One line.\n\n```text\npython -m x *\n```\n\n```text\nindented\n  more\n```\n"
    )
    assert as_rst(["A `b` *c*", "", "    d_e"]) == [
        "A ``b`` \\*c\\*", "", "::", "", "        d_e", "",
    ]  # fmt: skip
