"""Runs the tests inside of a component."""

import io
import unittest

# Before what imports `fcntl`.
import locket.fcntl

locket.fcntl.install()

import test_fcntl
import test_fcntl_guest
import test_locket
import test_locket_guest
import test_pylockfile
import wit_world

SUITES = {
    "locket": test_locket,
    "pylockfile": test_pylockfile,
    "guest": test_locket_guest,
    "fcntl": test_fcntl,
    "fcntl_guest": test_fcntl_guest,
}


class WitWorld(wit_world.WitWorld):
    def run(self, suite: str) -> str:
        output = io.StringIO()
        tests = unittest.defaultTestLoader.loadTestsFromModule(SUITES[suite])
        unittest.TextTestRunner(output, verbosity=2).run(tests)
        return output.getvalue().strip()
