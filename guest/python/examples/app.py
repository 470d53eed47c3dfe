"""Draws a hundred numbers from a file that all instances, and native processes, draw from."""

import os
import sys

import locket
from wit_world import exports

NUMBERS = "/jobs/numbers"


class Run(exports.Run):
    def run(self) -> None:
        try:
            drawn = [draw() for _ in range(100)]
        except locket.LockError as error:
            sys.exit(str(error))
        print("drawn", len(drawn), "numbers, the last of them", drawn[-1])


@locket.locked("/jobs/app.lock", timeout=30)
def draw() -> int:
    number = 1
    if os.path.exists(NUMBERS):
        with open(NUMBERS) as file:
            number += int(file.read())
    with open(NUMBERS, "w") as file:
        file.write(str(number))
    return number
