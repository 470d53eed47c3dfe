"""What all kinds of locks have in common: a handle of the host, and how to talk to it."""

import math
import os
import re
from typing import Any, Callable, ClassVar, ParamSpec, Self, TypeVar

from componentize_py_types import Err

# Whatever a component is to use has to be imported while it is built, so not only when needed.
try:
    from wit_world.imports import locket_api as api
except ImportError as error:
    raise ImportError(
        "this component has no access to locks: its world must `import locket:lock/api@0.1.0`"
    ) from error

from ._errors import said, text

P = ParamSpec("P")
R = TypeVar("R")
StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_LONGEST = 0xFFFF_FFFF
"""The longest timeout in milliseconds: what the interface has room for."""


class Base:
    """The lock of one file: opened when it is first needed, released when it is released, and at
    the latest when this object is no more."""

    _protocol: ClassVar[str | None] = None

    def __init__(
        self,
        path: StrPath,
        timeout: float | None,
        shared: bool,
        protocol: str | None = None,
        remove: bool = False,
    ) -> None:
        self.path = path
        self.timeout = timeout
        self.shared = shared
        self._options = api.Options(
            protocol_of(protocol or self._protocol),
            api.OnRelease.REMOVE if remove else api.OnRelease.KEEP,
        )
        self._opened: api.LockFile | None = None

    def acquire(self) -> Any:
        raise NotImplementedError

    def release(self) -> None:
        """Releases the lock."""
        self._ask(self._handle().release)

    def is_locked(self) -> bool:
        """Whether anybody holds the lock: true or false now, not a moment later."""
        return self._is_there() and self._ask(self._handle().is_locked)

    def i_am_locking(self) -> bool:
        """Whether this component holds the lock, be it through this object or another."""
        if not self._is_there():
            return False
        return isinstance(self._handle().state(), (api.State_Held, api.State_Uncertain))

    def lost(self) -> str | None:
        """Why this component holds the lock no more, although it did not release it:
        ``"expired"``, ``"broken"``, ``"disconnected"`` or ``"io"``. None where it was not lost."""
        state = self._handle().state()
        return _name(state.value) if isinstance(state, api.State_Lost) else None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"

    def _exception(self, code: str, message: str) -> Exception:
        """The exception that stands for an error of the host in this kind of lock."""
        raise NotImplementedError

    def _error(self, code: str, reason: str | None = None) -> Exception:
        return said(self._exception(code, text(code, reason, self.path)), code, reason)

    def _ask(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the host, and raises what it has to complain about as an exception."""
        try:
            return function(*args, **kwargs)
        except Err as err:
            # What raised it has it in a variable: through that circle it would keep this lock alive,
            # and held, until the next collection of garbage.
            failed = err.with_traceback(None).value
        raise self._error(*code_and_reason(failed))

    def _path(self) -> str:
        """The path as the host wants it."""
        path = os.fsdecode(self.path)
        try:
            path.encode()
        except UnicodeEncodeError:
            # Bytes that are not UTF-8. The strings of components have no way to say them.
            raise self._error("invalid-path") from None
        return path

    def _handle(self) -> api.LockFile:
        if self._opened is None:
            self._opened = self._ask(api.LockFile.open_with, self._path(), self._options)
        return self._opened

    def _is_there(self) -> bool:
        """Whether the file exists by now. It is created, but not in a directory that is missing."""
        try:
            self._handle()
        except Exception as error:
            if getattr(error, "code", None) == "no-entry":
                return False
            raise
        return True

    def _mode(self) -> api.Mode:
        return api.Mode.SHARED if self.shared else api.Mode.EXCLUSIVE

    def _wait(self, timeout: float | None) -> api.Grant:
        return self._ask(self._handle().acquire, self._mode(), to_millis(timeout))


def to_millis(timeout: float | None) -> int | None:
    """Seconds as the host wants them: whole milliseconds, rounded up so that no wait ends early."""
    if timeout is None or timeout == math.inf:
        return None
    if math.isnan(timeout):
        raise ValueError("a timeout cannot be NaN")
    if timeout <= 0:
        return 0
    millis = math.ceil(timeout * 1000)
    if millis > _LONGEST:
        raise ValueError(f"a timeout of {timeout} s is longer than {_LONGEST // 1000} s; "
                         "None waits for ever")
    return millis


def protocol_of(name: str | None) -> api.Protocol | None:
    """The protocol of that name, spelled as in ``locket:lock``."""
    if name is None:
        return None
    for protocol in api.Protocol:
        if _name(protocol) == name:
            return protocol
    raise ValueError(f"there is no protocol {name!r}; there are "
                     + ", ".join(map(_name, api.Protocol)))


def _name(case: Any) -> str:
    """The name of a case of an enum, as the interface spells it."""
    name: str = case.name
    return name.lower().replace("_", "-")


def code_and_reason(error: Any) -> tuple[str, str | None]:
    """The name of an error, as the interface spells it, and what came with it."""
    camel = type(error).__name__.removeprefix("Error_")
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", camel).lower()
    value = getattr(error, "value", None)
    return code, value if value is None or isinstance(value, str) else _name(value)
