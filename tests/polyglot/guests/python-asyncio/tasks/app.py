"""The guest of WASI 0.3."""

import scenarios
import wit_world
from wit_world.imports import monotonic_clock


class WitWorld(wit_world.WitWorld):
    async def run(self, command: str) -> str:
        return await scenarios.run(command, sleep)


async def sleep(seconds: float) -> None:
    await monotonic_clock.wait_for(int(seconds * 1e9))
