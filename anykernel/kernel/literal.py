# SPDX-License-Identifier: GPL-2.0
"""Where in a test's file a text stands that the test gives us."""

from __future__ import annotations

import ast
import functools
import linecache
import textwrap

from anykernel.link.code import Where
from anykernel.places import places


def where_is(text: str) -> Where | None:
    """The place of the string in the caller's files whose value is `text`, or becomes it by
    textwrap.dedent(): of several the one nearest to the call.  None for a text that was put
    together, whose lines nobody can tell."""
    for place in places():
        lines = _strings("".join(linecache.getlines(place.file))).get(text)
        if lines:
            return Where(place.file, min(lines, key=lambda line: abs(line - place.line)))
    return None


@functools.lru_cache(maxsize=16)
def _strings(python: str) -> dict[str, list[int]]:
    """The strings of a file that have several lines, or one: where each begins."""
    try:
        tree = ast.parse(python)
    except SyntaxError:  # no Python: a prompt, a template
        return {}
    found: dict[str, list[int]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        # One that has another number of lines is written with escapes, or in parts.
        if (node.end_lineno or 0) - node.lineno == node.value.count("\n"):
            for value in {node.value, textwrap.dedent(node.value)}:
                found.setdefault(value, []).append(node.lineno)
    return found
