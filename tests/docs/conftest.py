"""What the site's build generates is tested without Sphinx."""

import sys

from launcher import ROOT

sys.path.insert(0, str(ROOT / "docs"))
