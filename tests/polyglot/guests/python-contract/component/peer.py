"""Another holder, played by the host."""

from wit_world.imports import peer

FOLDER = "/locks"

hold = peer.hold


def release(after: float = 0) -> None:
    peer.release(int(after * 1000))
