"""The guest of WASI 0.2."""

import asyncio

import locket.aio
import scenarios
import wit_world


class WitWorld(wit_world.WitWorld):
    def run(self, command: str) -> str:
        done = scenarios.run(command, asyncio.sleep)
        return asyncio.run(done, loop_factory=locket.aio.EventLoop)
