"""The picture of the page in README, from the weights that are installed.

python docs/generate/page.py    writes docs/pictures/page.png

It needs Debian's chromium-headless-shell or chromium, and pip install -e '.[test]'.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from browser import answer, chromium, draw, opened

from dist_vgg.formats.html import write_html
from dist_vgg.formats.trained import SHIPPED, load_network, read_trained

PICTURE = Path(__file__).parents[1] / "pictures" / "page.png"


def main() -> None:
    """Draw a digit on the page, look inside, and keep what is on the screen."""
    weights = read_trained(SHIPPED)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        file = Path(folder) / "digits.html"
        write_html(file, weights, load_network(weights, "numpy"))
        with opened(browser, file.as_uri(), viewport={"width": 1280, "height": 1235}) as page:
            page.locator("summary").click()
            draw(page, 3)
            answer(page)
            page.locator(".grid").first.wait_for()
            page.mouse.move(0, 0)
            page.wait_for_timeout(1000)  # bars have moved, and all maps are drawn
            page.screenshot(path=PICTURE)


if __name__ == "__main__":
    main()
