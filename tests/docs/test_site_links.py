"""The check of the built site's links."""

from pathlib import Path

from generate.links import broken_inside, outside


def test_broken_links_and_pictures_without_words_are_found(tmp_path: Path) -> None:
    (tmp_path / "a b.html").write_text('<h1 id="top">x</h1><a href="#top">y</a>')
    (tmp_path / "index.html").write_text(
        '<a href="a%20b.html#top">1</a><a href="a%20b.html#no">2</a><a href="c.html">3</a>'
        '<a href="https://example.org/x#y">4</a><a href="mailto:a@b">5</a>'
        '<img src="a%20b.html" alt="words"><img src="a%20b.html">'
    )
    assert broken_inside(tmp_path) == [
        "index.html: picture a%20b.html has no alt text",
        "index.html: a%20b.html#no leads to no place in the page",
        "index.html: c.html leads to no file",
    ]
    assert outside(tmp_path) == ["https://example.org/x"]
