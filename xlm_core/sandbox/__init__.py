"""Where text that a network wrote is computed with: two walls, each of which holds without the other.

The inner one is a language: `interpreter` walks the syntax tree of a small part of Python and does only what it knows, so
that there is nothing to reach for. No program is compiled, or handed to Python's own `exec` or `eval`. The outer one is a
process (`worker`, `child`) that can open no file and no socket, start no process, and is killed when it takes too long.

`programs` runs programs and `formulas` compares formulas, both in that process. Data pass as lines of JSON.
"""
