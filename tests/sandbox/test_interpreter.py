"""The interpreter against Python itself on programs that are ours, and against programs that want out."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from textwrap import dedent, indent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlm_core.sandbox.budget import Refused, Spent
from xlm_core.sandbox.interpreter import Interpreter
from xlm_core.sandbox.programs import answer, extract, number, parse
from xlm_core.sandbox.worker import Worker


def run(program, steps=100_000):
    return Interpreter(steps).run(ast.parse(dedent(program)), "f")


def body(lines):
    return "def f():\n" + indent(dedent(lines).strip(), "    ")


def python(program):
    names = {}
    exec(dedent(program), names)
    return names["f"]()


# Each gives a value in Python: the interpreter must give the same.
PROGRAMS = (Path(__file__).parent / "programs.txt").read_text().split("\n\n\n")


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_give_what_python_gives(program):
    found, expected = run(program), python(program)
    assert found == expected
    assert repr(found) == repr(expected)


ERRORS = {
    "1 / 0": ZeroDivisionError,
    "[1][2]": IndexError,
    "{}['a']": KeyError,
    "'a' + 1": TypeError,
    "nothing": NameError,
    "(-8) ** (1 / 3) + int('x')": ValueError,
    "len(5)": TypeError,
    "abs(1)()": TypeError,
    "g(1, 2)": TypeError,
    "g()": TypeError,
    "g(1, z=1)": TypeError,
    "{[]: 1}": TypeError,
    "math.sqrt(-1)": ValueError,
    "max([])": ValueError,
    "10.0 ** 400": OverflowError,
}


@pytest.mark.parametrize(("expression", "error"), ERRORS.items(), ids=ERRORS)
def test_wrong_programs_raise_as_in_python(expression, error):
    program = f"import math\ndef g(x):\n    return x\ndef f():\n    return {expression}"
    with pytest.raises(error):
        run(program)
    with pytest.raises(error):
        python(program)


@pytest.mark.parametrize("lines", ["x = x + 1", "def h():\n    y = y + 1\n    return y\nreturn h()", "(a, b) = (1, 2, 3)"])
def test_names_and_unpacking_fail_as_in_python(lines):
    program = "x = 1\ny = 1\n" + body(lines + "\nreturn 1")
    with pytest.raises((NameError, ValueError)) as caught:
        python(program)
    with pytest.raises((NameError, ValueError)) as ours:
        run(program)
    assert isinstance(caught.value, type(ours.value))


OPERATORS = ("+", "-", "*", "/", "//", "%", "<", "<=", "==", "!=", "and", "or")
numbers = st.one_of(st.integers(-20, 20), st.floats(-5, 5).map(lambda x: round(x, 2)), st.booleans()).map(repr)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(lambda t: f"({' '.join(t)})"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
        inner.map(lambda x: f"(-{x})"),
        inner.map(lambda x: f"round({x}, 1)"),
        inner.map(lambda x: f"abs({x})"),
        st.tuples(inner, inner).map(lambda t: f"max({t[0]}, {t[1]})"),
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(expressions)
def test_expressions_give_what_python_gives(expression):
    program = body(f"return {expression}")
    try:
        expected = repr(python(program))
    except ArithmeticError as error:
        with pytest.raises(type(error)):
            run(program)
    else:
        assert repr(run(program)) == expected


# Each returns something, or ends, if it gets what it wants.
ESCAPES = {
    "import": "import os\nreturn 1",
    "from import": "from os import path\nreturn 1",
    "math's own": "import math\nreturn math.__loader__",
    "from math": "from math import __loader__\nreturn 1",
    "star": "from math import *\nreturn 1",
    "relative": "from . import math\nreturn 1",
    "__import__": "return __import__('os').getpid()",
    "builtins": "return __builtins__",
    "globals": "return globals()",
    "class": "return ().__class__.__bases__[0].__subclasses__()",
    "class called": "return ().__class__()",
    "type": "return type(1)",
    "getattr": "return getattr(1, '__class__')",
    "vars": "return vars()",
    "eval": "return eval('1')",
    "exec": "exec('1')\nreturn 1",
    "compile": "return compile('1', '', 'eval')",
    "open": "return open('/etc/passwd').read()",
    "input": "return input()",
    "format": "return '{0.__class__}'.format(1)",
    "format_map": "return '{x}'.format_map({'x': 1})",
    "percent": "return '%s' % 1",
    "f-string attribute": "return f'{().__class__}'",
    "f-string of a function": "return f'{len}'",
    "generator frame": "g = (1 for x in [1])\nreturn g.gi_frame",
    "function code": "return (lambda: 1).__code__",
    "function globals": "def g():\n    return 1\nreturn g.__globals__",
    "bound method": "x = [].append\nreturn 1",
    "map of a method": "return list(map(str.lower, 'A'))",
    "traceback": "try:\n    1 / 0\nexcept Exception as e:\n    return e.__traceback__",
    "try": "try:\n    while True:\n        pass\nfinally:\n    return 1",
    "with": "with open('x') as g:\n    return 1",
    "class statement": "class A:\n    pass\nreturn 1",
    "decorator": "@print\ndef g():\n    return 1\nreturn 1",
    "walrus": "return (x := 1)",
    "yield": "yield 1",
    "await": "async def g():\n    await x\nreturn 1",
    "async comprehension": "return [x async for x in y]",
    "global": "global x\nreturn 1",
    "nonlocal": "def g():\n    nonlocal f\nreturn g()",
    "delete": "x = 1\ndel x\nreturn 1",
    "attribute set": "x = []\nx.y = 1\nreturn 1",
    "math attribute set": "import math\nmath.pi = 3\nreturn 1",
    "star arguments": "def g(*a):\n    return a\nreturn g(1)",
    "double star call": "return dict(**{'a': 1})",
    "match": "match 1:\n    case int(real=x):\n        return x",
    "matrix": "return [1] @ [1]",
    "bytes": "return b'x'",
    "complex": "return 1j",
    "ellipsis": "return ...",
    "encode": "return 'x'.encode()",
    "translate": "return 'x'.translate({})",
    "isinstance of object": "return isinstance(1, object)",
    "type of a type": "return isinstance(1, len)",
    "key of a function": "return {len: 1}",
    "full width": "return \uff4f\uff50\uff45\uff4e('/etc/passwd')",
    "full width class": "return ().__\uff43\uff4c\uff41\uff53\uff53__",
    "full width import": "return __\uff49\uff4d\uff50\uff4f\uff52\uff54__('os')",
    "mutated library": "import math\nmath.update({})\nreturn 1",
    "copy": "import copy\nreturn 1",
    "print to file": "print('x', file=open('x', 'w'))\nreturn 1",
}


@pytest.mark.parametrize("lines", ESCAPES.values(), ids=ESCAPES)
def test_nobody_gets_out(lines):
    found = answer({"text": body(lines), "function": "f", "steps": 10_000})
    assert found["value"] is None
    assert found["failure"] in ("refused", "raised", "syntax")


def test_annotations_and_docstrings_are_not_evaluated():
    program = "def f(x: nothing() = 1) -> boom():\n    y: also[nothing] = 2\n    z: open('x')\n    return x + y"
    assert run(program) == 3


BOMBS = {
    "loop": "while True:\n    pass",
    "for": "for i in range(10 ** 30):\n    pass",
    "power": "return 10 ** 10 ** 10",
    "power of power": "x = 2\nwhile True:\n    x = x ** x",
    "in place": "x = 9\nx **= 10 ** 9\nreturn x",
    "product": "x = 3\nwhile True:\n    x *= x",
    "refund": "while True:\n    2 ** -(10 ** 9)",
    "shift": "return 1 << 10 ** 10",
    "text": "return '9' * 10 ** 9",
    "text doubled": "x = 'x'\nwhile True:\n    x += x",
    "list": "return [0] * 10 ** 9",
    "list doubled": "x = [0]\nwhile True:\n    x += x",
    "tuple": "return 10 ** 9 * (0,)",
    "list of range": "return list(range(10 ** 10))",
    "sum of range": "return sum(range(10 ** 12))",
    "set of range": "return set(range(10 ** 10))",
    "float in range": "return 0.5 in range(10 ** 15)",
    "comprehension": "return [x for x in range(10 ** 10)]",
    "itself": "x = [1]\nfor y in x:\n    x.append(y)",
    "factorial": "import math\nreturn math.factorial(10 ** 7)",
    "comb": "import math\nreturn math.comb(10 ** 9, 10 ** 8)",
    "perm": "import math\nreturn math.perm(10 ** 9)",
    "lcm": "import math\nreturn math.lcm(*range(1, 10 ** 4))",
    "prod": "import math\nreturn math.prod(range(1, 10 ** 6))",
    "modular": "return pow(3, 10 ** 1200, 10 ** 1200)",
    "round": "return round(5, -10 ** 9)",
    "width": "return f'{1:1000000000}'",
    "precision": "return f'{1.5:.999999999f}'",
    "nested width": "w = 10 ** 9\nreturn f'{1:{w}}'",
    "other digits": "return f'{1:>٩٩٩٩٩٩٩٩٩}'",
    "join": "return ('x' * 10000).join('y' * 10000)",
    "replace": "return ('x' * 10000).replace('x', 'y' * 10000)",
    "replace nothing": "return ('x' * 10000).replace('', 'y' * 10000)",
    "f-string": "x = 'x' * 10000\nwhile True:\n    x = f'{x}{x}'",
    "shared lists": "x = [1]\nfor i in range(45):\n    x = [x, x]\nreturn str(x)",
    "shared hash": "x = (1,)\nfor i in range(45):\n    x = (x, x)\nreturn {x}",
    "shared key": "x = (1,)\nfor i in range(45):\n    x = (x, x)\nreturn {x: 1}",
    "shared equal": "x, y = [1], [1]\nfor i in range(45):\n    x, y = [x, x], [y, y]\nreturn x == y",
    "shared sort": "x, y = [1], [1]\nfor i in range(45):\n    x, y = [x, x], [y, y]\nreturn sorted([x, y])",
    "shared in": "x, y = [1], [1]\nfor i in range(45):\n    x, y = [x, x], [y, y]\nreturn x in [y]",
    "itself printed": "x = []\nx.append(x)\nreturn str(x)",
    "itself inside": "x = []\nx += [x]\nreturn str(x)",
    "deep": "x = []\nfor i in range(1000):\n    x = [x]\nreturn x == x",
    "recursion": "def g(n):\n    return g(n + 1)\nreturn g(0)",
    "recursion twice": "def g():\n    return g() + g()\nreturn g()",
    "recursion by sort": "def g(x):\n    return sorted([1, 2], key=g)\nreturn g(1)",
    "map of map": "x = range(10)\nfor i in range(700):\n    x = map(lambda y: y, x)\nreturn next(x)",
    "endless split": "x = 'a ' * 1000\nwhile True:\n    x.split()",
    "fork": "def g():\n    g()\n    g()\nwhile True:\n    g()",
}


@pytest.mark.parametrize("lines", BOMBS.values(), ids=BOMBS)
def test_bombs_do_not_go_off(lines):
    """In this process, without the outer wall: were one to go off, the tests would end with it."""
    found = answer({"text": body(lines), "function": "f", "steps": 50_000})
    assert found["value"] is None
    assert found["failure"] == "spent"


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    return " + "(" * 5000 + "1" + ")" * 5000,
        "def f():\n    return " + "-" * 100_000 + "1",
        "def f():\n    return " + "1 + " * 20_000 + "1",
        "def f():\n    return " + "[" * 150 + "]" * 150 + "[0]" * 10_000,
        "def f():\n    return " + "9" * 5000,
        "def f():\n" + "".join("  " * n + "if 1:\n" for n in range(1, 150)) + "  " * 150 + "return 1",
        "def f():\n    return '\\ud800' + 1",
        "def f():\n    return 1\0",
        "def f(",
        "def f():\n    return f'{" + "f'{" * 50,
    ],
    ids=["parentheses", "signs", "sums", "indices", "digits", "blocks", "surrogate", "null", "unfinished", "f-strings"],
)
def test_texts_that_break_parsers(source):
    found = answer({"text": source, "function": "f", "steps": 50_000})
    assert found["value"] is None
    assert found["failure"] in ("syntax", "spent", "raised")


def test_steps_are_counted_alike_every_time():
    program = body("t = 0\nfor i in range(100):\n    t += i\nreturn t")

    def needed():
        low, high = 0, 10_000
        while high - low > 1:
            middle = (low + high) // 2
            try:
                run(program, middle)
            except Spent:
                low = middle
            else:
                high = middle
        return high

    assert needed() == needed()
    assert 400 < needed() < 2000


def test_what_is_refused_is_named():
    with pytest.raises(Refused, match="import os"):
        run("import os\ndef f():\n    return 1")


def test_a_program_is_found_in_a_text():
    code = "def f():\n    return 1"
    assert extract(f"Here it is:\n```python\nimport math\n{code}\n```\nand ```def g(): 0```") == f"import math\n{code}\n"
    assert extract(f"Sure.\n{code}<|endoftext|>def g(): 0") == code
    assert extract(f"```\n{code}") == code
    assert extract(f"from there we go:\n{code}") == code
    assert answer({"text": "no program", "function": "f", "steps": 10})["failure"] == "no_program"


def test_lines_at_the_end_that_are_no_program_are_dropped():
    lines = "def f():\n    return 1\n"
    assert ast.dump(parse(lines + "so it is (1\n" * 49)) == ast.dump(parse(lines))
    with pytest.raises(SyntaxError):
        parse(lines + "so it is (1\n" * 50)
    found = answer({"text": lines + "and that's it", "function": "f", "steps": 100})
    assert found == {"value": 1, "failure": None}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (True, None),
        (2.9999999, 3),
        (2.5, 2.5),
        (1e300, round(1e300)),
        (math.inf, None),
        (math.nan, None),
        ("$1,234.50 or 7", 1234.5),
        ("-12 apples", -12),
        (".5", 0.5),
        ("none", None),
        (None, None),
        ([3], None),
    ],
)
def test_results_as_numbers(value, expected):
    found = number(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("lines", "failure"),
    [("return None", "no_number"), ("return {}['a']", "raised"), ("return [][0]", "raised"), ("import os", "refused")],
)
def test_failures_are_told_apart(lines, failure):
    found = answer({"text": body(lines), "function": "f", "steps": 1000})
    assert (found["value"], found["failure"]) == (None, failure)


def test_the_process_runs_programs_and_survives_the_deepest():
    deep = "def f():\n    return " + "1 + " * 2000 + "1"
    texts = [
        ("def f():\n    return 2 ** 100", 2**100),
        (deep, 2001),
        (body(BOMBS["recursion by sort"]), None),
        ("def f():\n    return " + "-" * 100_000 + "1", None),
        (body("return list({'a', 'b', 'c', 'd'})[0] < 'z' and 1.5"), 1.5),
    ]
    with Worker("xlm_core.sandbox.programs") as worker:
        found = [worker.ask({"text": text, "function": "f", "steps": 200_000}) for text, _ in texts]
    assert [one["value"] for one in found] == [value for _, value in texts]
    assert {one["failure"] for one in found} == {None, "spent"}
