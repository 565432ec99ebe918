"""What a training writes down on its way."""

import csv
from pathlib import Path


class Log:
    """A CSV file of rows with a "step" column."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut(self, after: int) -> None:
        """Drop the rows after a step: a killed run logs more than it saves."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            # a kill may also have left half a row at the end
            rows = [r for r in reader if None not in r.values() and r["step"]]
            rows = [r for r in rows if int(r["step"]) <= after]
        self.path.unlink()
        for row in rows:
            self.write(row)

    def write(self, row: dict) -> None:
        """Append a row; the first one also writes the names of the columns."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
