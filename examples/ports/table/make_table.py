"""The table that the three programs read: scikit-learn's diabetes data with holes in it."""

import csv
from pathlib import Path

from sklearn.datasets import load_diabetes

COLUMNS = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
# The columns with a missing entry in each 17th row, and the first such row.
MISSING = {"bmi": 3, "s1": 5, "s3": 8, "s6": 11}


def make_table(path: Path) -> None:
    """Write 442 rows of age, sex (a or b), bmi, bp, s1 to s6 and, last, the target."""
    numbers, targets = load_diabetes(return_X_y=True, scaled=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "target"])
        for number, (values, target) in enumerate(zip(numbers, targets, strict=True)):
            row = dict(zip(COLUMNS, values.tolist(), strict=True))
            row["sex"] = "a" if row["sex"] == 1 else "b"
            row |= {name: "" for name, first in MISSING.items() if number % 17 == first}
            writer.writerow([*row.values(), target])
