//! File locks for WebAssembly components, shared with other guests and native processes on the host.
//!
//!     var lock = try locket.Lock.open("/jobs/app.lock", .{});
//!     defer lock.close();
//!     var guard = try lock.acquire(.exclusive, 30_000);
//!     defer guard.release();
//!
//! Built on the C bindings in `guest/c`. Link them with this file.

const c = struct {
    extern fn locket_open_with(*Handle, [*:0]const u8, *const RawOptions) c_uint;
    extern fn locket_close(*Handle) void;
    extern fn locket_acquire(*Handle, c_uint, i64) c_uint;
    extern fn locket_release(*Handle) c_uint;
    extern fn locket_is_locked(*const Handle, *bool) c_uint;
    extern fn locket_get_state(*const Handle) RawState;
    extern fn locket_error_name(c_uint) [*:0]const u8;
};

const Handle = extern struct { handle: i32 = 0 };
const RawOptions = extern struct { protocol: Protocol, remove_on_release: bool };
const RawState = extern struct {
    is: enum(c_uint) { unlocked, held, uncertain, lost },
    lost: c_uint,
    has_token: bool,
    token: u64,
    left: i64,
};

/// Why a call did not succeed; see `locket.h`.
pub const Error = error{
    WouldBlock,
    Timeout,
    NotLocked,
    NotOwner,
    Deadlock,
    AccessDenied,
    NoEntry,
    InvalidPath,
    LimitExceeded,
    NotSupported,
    Unavailable,
    Canceled,
    Other,
    Closed,
    LostExpired,
    LostBroken,
    LostDisconnected,
    LostIo,
    NoSpace,
    Quota,
    ReadOnly,
    Stale,
    TooManyFiles,
    TooManyLocks,
    Io,
};

/// In the order of `locket.h`, starting at 1.
const errors = [_]Error{
    error.WouldBlock,       error.Timeout,       error.NotLocked,    error.NotOwner,
    error.Deadlock,         error.AccessDenied,  error.NoEntry,      error.InvalidPath,
    error.LimitExceeded,    error.NotSupported,  error.Unavailable,  error.Canceled,
    error.Other,            error.Closed,        error.LostExpired,  error.LostBroken,
    error.LostDisconnected, error.LostIo,        error.NoSpace,      error.Quota,
    error.ReadOnly,         error.Stale,         error.TooManyFiles, error.TooManyLocks,
    error.Io,
};

fn checked(code: c_uint) Error!void {
    if (code != 0) return errors[code - 1];
}

/// The name of an error as the interface spells it, such as `would-block` or `lost broken`.
pub fn errorName(err: Error) [*:0]const u8 {
    const code = for (errors, 1..) |candidate, code| {
        if (candidate == err) break code;
    } else unreachable;
    return c.locket_error_name(@intCast(code));
}

/// The kind of access that a hold grants: exclusive excludes every other hold, shared excludes only
/// exclusive holds.
pub const Mode = enum(c_uint) { exclusive, shared };

/// The locking mechanism, and thus which other programs the lock excludes.
pub const Protocol = enum(c_uint) {
    /// The host's choice.
    default,
    native,
    flock,
    fcntl,
    link,
    symlink,
    mkdir,
    pid_file,
    soft,
    sqlite,
};

pub const Options = struct {
    protocol: Protocol = .default,
    /// Whether to remove the file when the lock is released.
    remove_on_release: bool = false,
};

/// The state of this component's own hold.
pub const State = union(enum) {
    unlocked,
    held: ?u64,
    /// The host cannot determine whether the lock is still held. The value is the number of
    /// milliseconds before it counts as lost.
    uncertain: u32,
    lost: Error,
};

/// A handle to the lock of one file.
pub const Lock = struct {
    raw: Handle = .{},

    /// Opens the lock of the file at `path`, and creates the file if it is missing and may be created.
    /// Does not acquire the lock.
    pub fn open(path: [:0]const u8, options: Options) Error!Lock {
        var lock: Lock = .{};
        try checked(c.locket_open_with(&lock.raw, path, &.{
            .protocol = options.protocol,
            .remove_on_release = options.remove_on_release,
        }));
        return lock;
    }

    /// Releases the holds acquired through this handle.
    pub fn close(lock: *Lock) void {
        c.locket_close(&lock.raw);
    }

    /// Acquires the lock, which stays held until the guard is released. Waits for at most `timeout`
    /// milliseconds: null waits indefinitely, 0 tries once.
    pub fn acquire(lock: *Lock, mode: Mode, timeout: ?u32) Error!Guard {
        try lock.lockUnguarded(mode, timeout);
        return .{ .lock = lock };
    }

    /// Acquires the lock without a guard, for code that releases it explicitly.
    pub fn lockUnguarded(lock: *Lock, mode: Mode, timeout: ?u32) Error!void {
        const millis: i64 = if (timeout) |millis| millis else -1;
        try checked(c.locket_acquire(&lock.raw, @intFromEnum(mode), millis));
    }

    /// Releases one hold.
    pub fn release(lock: *Lock) Error!void {
        try checked(c.locket_release(&lock.raw));
    }

    /// Whether the lock is held, by this component or another holder.
    pub fn isLocked(lock: *const Lock) Error!bool {
        var is_locked = false;
        try checked(c.locket_is_locked(&lock.raw, &is_locked));
        return is_locked;
    }

    /// The state of this component's own hold. Performs no I/O.
    pub fn state(lock: *const Lock) State {
        const raw = c.locket_get_state(&lock.raw);
        return switch (raw.is) {
            .unlocked => .unlocked,
            .held => .{ .held = if (raw.has_token) raw.token else null },
            .uncertain => .{ .uncertain = @intCast(raw.left) },
            .lost => .{ .lost = errors[raw.lost - 1] },
        };
    }
};

/// A hold; `defer guard.release()` ends it with the scope.
pub const Guard = struct {
    lock: *Lock,

    /// Releases the lock and ignores errors, including a lost hold. `lock.release()` reports them.
    pub fn release(guard: *Guard) void {
        guard.lock.release() catch {};
    }
};
