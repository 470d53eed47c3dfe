"""The packages inside of a component."""

import tempfile

# Must come before any module that imports `fcntl`.
import locket.fcntl

locket.fcntl.install()
# portalocker asks for it when it is imported, and while a component is built there is none.
tempfile.tempdir = "/locks"

import packages
import wit_world


class WitWorld(wit_world.WitWorld):
    def run(self, command: str) -> str:
        return packages.run("/locks", command)
