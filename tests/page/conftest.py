"""What the tests of the page share: pages with the network that is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import opened
from playwright.sync_api import Browser, Page

from dist_vgg.formats.html import write_html
from dist_vgg.formats.trained import SHIPPED, load_network, read_trained


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a page with the weights that are installed."""
    file: Path = tmp_path_factory.mktemp("page") / "digits.html"
    weights = read_trained(SHIPPED)
    write_html(file, weights, load_network(weights, "numpy"))
    return file.as_uri()


@pytest.fixture
def page(browser: Browser, digits: str) -> Iterator[Page]:
    with opened(browser, digits) as page:
        yield page
