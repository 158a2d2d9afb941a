"""Four problems with solutions that are shown before each question. They are of no data set."""

from typing import NamedTuple


class Shot(NamedTuple):
    problem: str
    solution: str


SHOTS = (
    Shot(
        r"A rectangle is $3$ centimetres longer than it is wide, and its area is $40$ square centimetres. What is its "
        r"perimeter, in centimetres?",
        r"Let $w$ be the width. Then $w(w + 3) = 40$, so $w^2 + 3w - 40 = (w - 5)(w + 8) = 0$. A width is positive, hence "
        r"$w = 5$ and the length is $8$. The perimeter is $2(5 + 8) = \boxed{26}$.",
    ),
    Shot(
        r"How many positive divisors does $360$ have?",
        r"We have $360 = 2^3 \cdot 3^2 \cdot 5$. A divisor takes one of $4$ powers of $2$, one of $3$ powers of $3$ and one of "
        r"$2$ powers of $5$, so there are $4 \cdot 3 \cdot 2 = \boxed{24}$ of them.",
    ),
    Shot(
        r"Two fair six-sided dice are rolled. What is the probability that the larger of the two numbers is $4$? Express your "
        r"answer as a common fraction.",
        r"Both numbers are at most $4$ in $4^2 = 16$ of the $36$ cases and at most $3$ in $3^2 = 9$ of them. The larger is "
        r"exactly $4$ in the other $16 - 9 = 7$ cases, so the probability is $\boxed{\frac{7}{36}}$.",
    ),
    Shot(
        r"Simplify $\sqrt{48} - \sqrt{12} + \sqrt{3}$.",
        r"Since $\sqrt{48} = 4\sqrt{3}$ and $\sqrt{12} = 2\sqrt{3}$, the sum is $(4 - 2 + 1)\sqrt{3} = \boxed{3\sqrt{3}}$.",
    ),
)
