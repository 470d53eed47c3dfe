"""The common base of all kinds of locks: a host handle, and calls on it."""

import math
import os
import re
from typing import Any, Callable, ClassVar, ParamSpec, Self, TypeVar

from componentize_py_types import Err

# A component can use only modules that were imported while it was built, so do not import this
# lazily.
try:
    from wit_world.imports import locket_api as api
except ImportError as error:
    raise ImportError(
        "this component cannot use locks: its world must `import locket:lock/api@0.1.0`"
    ) from error

P = ParamSpec("P")
R = TypeVar("R")
StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_LONGEST = 0xFFFF_FFFF
"""The longest timeout that the interface can represent, in milliseconds."""


class Base:
    """The lock of one file. It is opened when it is first needed, and released at the latest when
    this object is destroyed."""

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
        """Whether the lock is held. The answer is valid only at the moment of the call."""
        return self._is_there() and self._ask(self._handle().is_locked)

    def i_am_locking(self) -> bool:
        """Whether this component holds the lock, through this object or another."""
        if not self._is_there():
            return False
        return isinstance(self._handle().state(), (api.State_Held, api.State_Uncertain))

    def lost(self) -> str | None:
        """Why this component no longer holds the lock although it did not release it:
        ``"expired"``, ``"broken"``, ``"disconnected"`` or ``"io"``. None if it was not lost."""
        state = self._handle().state()
        return _name(state.value) if isinstance(state, api.State_Lost) else None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"

    def _error(self, code: str, reason: str | None = None) -> Exception:
        """The exception that this kind of lock raises for a host error."""
        raise NotImplementedError

    def _ask(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the host, and raises its error as an exception."""
        return ask(self._error, function, *args, **kwargs)

    def _path(self) -> str:
        """The path in the form that the host expects."""
        path = os.fsdecode(self.path)
        try:
            path.encode()
        except UnicodeEncodeError:
            # The strings of components cannot represent bytes that are not UTF-8.
            raise self._error("invalid-path") from None
        return path

    def _handle(self) -> api.LockFile:
        if self._opened is None:
            self._opened = self._ask(api.LockFile.open_with, self._path(), self._options)
        return self._opened

    def _is_there(self) -> bool:
        """Whether the file exists. Opening creates it, unless its directory is missing."""
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


def ask(
    exception: Callable[[str, str | None], Exception],
    function: Callable[P, R],
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """Calls the host, and raises its error as the exception for its code and reason."""
    try:
        return function(*args, **kwargs)
    except Err as err:
        # The frame that raised the error refers to it in a variable. That reference cycle would keep
        # the arguments alive, and a lock held, until the next garbage collection.
        failed = err.with_traceback(None).value
    raise exception(*code_and_reason(failed))


def to_millis(timeout: float | None) -> int | None:
    """Converts seconds to whole milliseconds, rounded up so that no wait ends early."""
    if timeout is None or timeout == math.inf:
        return None
    if math.isnan(timeout):
        raise ValueError("a timeout cannot be NaN")
    if timeout <= 0:
        return 0
    millis = math.ceil(timeout * 1000)
    if millis > _LONGEST:
        raise ValueError(f"a timeout of {timeout} s is longer than {_LONGEST // 1000} s; "
                         "None waits indefinitely")
    return millis


def protocol_of(name: str | None) -> api.Protocol | None:
    """The protocol with a name, spelled as in ``locket:lock``."""
    if name is None:
        return None
    for protocol in api.Protocol:
        if _name(protocol) == name:
            return protocol
    raise ValueError(f"unknown protocol {name!r}; the protocols are "
                     + ", ".join(map(_name, api.Protocol)))


def _name(case: Any) -> str:
    """The name of an enum case, as the interface spells it."""
    name: str = case.name
    return name.lower().replace("_", "-")


def code_and_reason(error: Any) -> tuple[str, str | None]:
    """The name of an error, as the interface spells it, and its details."""
    camel = type(error).__name__.removeprefix("Error_")
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", camel).lower()
    value = getattr(error, "value", None)
    return code, value if value is None or isinstance(value, str) else _name(value)
