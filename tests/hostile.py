"""Texts that mean something to a browser, Markdown, Streamlit, a shell, a spreadsheet or a terminal."""

from __future__ import annotations

import unicodedata

# Taken for markup, each sets window.__pwned, opens a dialog or loads something from a machine that does not exist.
MARKUP = (
    "<img src=x onerror=window.__pwned=1>",
    "<script>window.__pwned=1</script>",
    "<svg onload=alert(1)>",
    "![i](http://evil.invalid/i.png)",
    "[l](javascript:window.__pwned=1)",
    "<a href=javascript:alert(1)>a</a>",
    "[![i](http://evil.invalid/j.png)](http://evil.invalid)",
    "&lt;b&gt; &#60;img src=x&#62;",
    "</textarea></style></script><iframe src=//evil.invalid>",
)
# Each would look different.
FORMATTED = (
    "**bold** _under_ ~~gone~~ `code`",
    ":red[text] :material/delete: :smile: :streamlit: :blue-badge[b]",
    "$x^2$ and $$y$$",
    "a -> b -- c <= d",
    "| cell | cell |",
    "# title",
    "- item",
    "1. item",
    "> quote",
    "https://evil.invalid/?a=b&c=d",
    "C:\\data\\*.png",
    "<b>b</b><br>%{x} {{ 7*7 }} ${7*7}",
    "'; DROP TABLE x; --",
    "$(touch pwned) `id` ; ls | cat",
    "=HYPERLINK(A1)",
    "naïve 🚧 日本語",
)
NAMES = MARKUP + FORMATTED
RULES = (
    "=====",
    "---",
    "***",
    "+ a",
    "12) b",
    ": a",
    "::: a",
    "a: :red[b]:",
)  # no names of categories, which need a word
CONTROLS = ("nul\0byte", "bell\a \x1b[31mred", "turned\u202earound", "zero\u200bwidth", "line\u2028separator\nnew\ttab")
LONG = "long " * 20_000


def shown(text: str) -> str:
    """As a page or a report shows it: one line."""
    return " ".join(text.split())


def is_printable(text: str) -> bool:
    """Whether a terminal or a page shows it without side effects."""
    return all(unicodedata.category(c) not in ("Cc", "Cs") and c not in "\u202a\u202b\u202d\u202e" for c in text)
