"""Takes a hundred numbers from a file, from which other instances and native processes also take."""

import os
import sys

import locket
from wit_world import exports

NUMBERS = "/jobs/numbers"


class Run(exports.Run):
    def run(self) -> None:
        try:
            numbers = [take_number() for _ in range(100)]
        except locket.LockError as error:
            sys.exit(str(error))
        print(f"took {len(numbers)} numbers, the last is {numbers[-1]}")


@locket.locked("/jobs/app.lock", timeout=30)
def take_number() -> int:
    number = 1
    if os.path.exists(NUMBERS):
        with open(NUMBERS) as file:
            number += int(file.read())
    with open(NUMBERS, "w") as file:
        file.write(str(number))
    return number
