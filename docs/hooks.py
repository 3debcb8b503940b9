"""What mkdocs does beside its plugins: names of roles in docstrings are not shown."""

import re
from typing import Any

#: Docstrings say ``:meth:`encode` ``, which only Sphinx knows; a page shows the code alone.
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<code>)")


def on_page_content(html: str, **_: Any) -> str:
    """Remove ``:meth:`` and its like in front of code."""
    return ROLE.sub("", html)
