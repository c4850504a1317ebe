"""Check the links of the built site: python docs/generate/links.py docs/_build/html

Each link within the site must lead to a file, and its part behind # to a place in that file. Links
to other sites are tried where there is a network: one that is answered with "not found" or "gone"
is an error, and every other trouble there is somebody else's, and only told.
"""

import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

PROBE = "https://www.sphinx-doc.org/"
MISSING = (404, 410)
SECONDS = 10


class Page(HTMLParser):
    """The links of a page, and the places in it that links may lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.without_words: list[str] = []  # pictures that say nothing to who can't see them
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.places |= {value for name in ("id", "name") if (value := found.get(name))}
        self.links += [value for name in ("href", "src") if (value := found.get(name))]
        if tag == "img" and not found.get("alt"):
            self.without_words.append(found.get("src") or "")


def broken_inside(site: Path) -> list[str]:
    """What is wrong within the site, a line for each link or picture."""
    pages = {path: Page(path) for path in site.rglob("*.html")}
    found = []
    for path, page in sorted(pages.items()):
        name = path.relative_to(site)
        found += [f"{name}: picture {picture} has no alt text" for picture in page.without_words]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{name}: {link} leads to no file")
                continue
            place = unquote(parts.fragment)
            if place and target in pages and place not in pages[target].places:
                found.append(f"{name}: {link} leads to no place in the page")
    return found


def outside(site: Path) -> list[str]:
    """The links of the site to others, each once."""
    links = {link for path in site.rglob("*.html") for link in Page(path).links}
    return sorted({urldefrag(link)[0] for link in links if link.startswith(("http:", "https:"))})


def trouble(url: str) -> tuple[str, bool]:
    """What is wrong with a link to another site, if anything, and whether it leads nowhere."""
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "Mozilla/5.0"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return "", False
    except urllib.error.HTTPError as error:
        return f"{url}: {error.code} {error.reason}", error.code in MISSING
    except OSError as error:
        return f"{url}: {error}", False


def main(site: Path) -> int:
    """Check all links of a site; 1 where one is broken."""
    site = site.resolve()
    broken, links = broken_inside(site), outside(site)
    said, _ = trouble(PROBE)
    if said and ": 4" not in said:
        print(f"no network: {len(links)} links to other sites were not tried")
    else:
        with ThreadPoolExecutor(8) as pool:
            for words, leads_nowhere in pool.map(trouble, links):
                if leads_nowhere:
                    broken.append(words)
                elif words:
                    print(f"not checked: {words}")
    print("\n".join(broken) or "every link leads somewhere")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
