//! The test guest in Zig.

const std = @import("std");
const locket = @import("locket");

const String = extern struct { ptr: [*]u8, len: usize };
extern fn test_string_dup_n(*String, [*]const u8, usize) void;
extern fn test_string_free(*String) void;
extern fn locket_test_counter_read() u32;
extern fn locket_test_counter_write(u32) void;

/// A closed one is a free place.
const Named = struct {
    name: [16]u8 = @splat(0),
    lock: ?locket.Lock = null,

    fn is(named: *const Named, name: []const u8) bool {
        return named.lock != null and std.mem.eql(u8, std.mem.sliceTo(&named.name, 0), name);
    }
};

var locks: [128]Named = @splat(.{});
var path_buffer: [1 << 20]u8 = undefined;

fn find(name: []const u8) ?*Named {
    for (&locks) |*named| {
        if (named.is(name)) return named;
    }
    return null;
}

fn free() *Named {
    for (&locks) |*named| {
        if (named.lock == null) return named;
    }
    unreachable;
}

fn open(name: []const u8, words: []const u8) !void {
    var path = words;
    var options: locket.Options = .{};
    if (std.mem.lastIndexOfScalar(u8, words, ' ')) |space| {
        for (std.enums.values(locket.Protocol)) |protocol| {
            const spelled = if (protocol == .pid_file) "pid-file" else @tagName(protocol);
            if (std.mem.eql(u8, words[space + 1 ..], spelled)) {
                options.protocol = protocol;
                path = words[0..space];
            }
        }
    }
    @memcpy(path_buffer[0..path.len], path);
    path_buffer[path.len] = 0;
    const lock = try locket.Lock.open(path_buffer[0..path.len :0], options);
    const place = find(name) orelse free();
    if (place.lock) |*old| old.close();
    place.* = .{ .lock = lock };
    @memcpy(place.name[0..name.len], name);
}

/// Milliseconds, or `none`; cut at what the interface can say.
fn parse(text: []const u8) !?u32 {
    if (std.mem.eql(u8, text, "none")) return null;
    return std.math.cast(u32, try std.fmt.parseInt(u64, text, 10)) orelse std.math.maxInt(u32);
}

/// Fails inside of the scope.
fn scoped(lock: *locket.Lock, timeout: ?u32) !void {
    var guard = try lock.acquire(.exclusive, timeout);
    defer guard.release();
    return error.Inside;
}

fn count(lock: *locket.Lock, times: u32) !void {
    for (0..times) |_| {
        var guard = try lock.acquire(.exclusive, null);
        defer guard.release();
        locket_test_counter_write(locket_test_counter_read() + 1);
    }
}

fn obey(command: []const u8) ![]const u8 {
    var words = std.mem.splitScalar(u8, command, ' ');
    const verb = std.meta.stringToEnum(enum {
        open,
        acquire,
        release,
        @"is-locked",
        state,
        drop,
        scoped,
        count,
        trap,
    }, words.first()) orelse return error.Usage;
    if (verb == .trap) @trap();
    const name = words.next() orelse return error.Usage;
    if (verb == .open) {
        try open(name, words.rest());
        return "";
    }
    const named = find(name) orelse return error.Closed;
    const lock = &named.lock.?;
    switch (verb) {
        .acquire => {
            const mode = std.meta.stringToEnum(locket.Mode, words.next() orelse "");
            try lock.lockUnguarded(mode orelse return error.Usage, try parse(words.rest()));
        },
        .release => try lock.release(),
        .@"is-locked" => return if (try lock.isLocked()) "true" else "false",
        .state => return switch (lock.state()) {
            .lost => |reason| std.mem.span(locket.errorName(reason)),
            else => |state| @tagName(state),
        },
        .drop => {
            lock.close();
            named.lock = null;
        },
        .scoped => scoped(lock, try parse(words.rest())) catch |err| switch (err) {
            error.Inside => return "inside",
            else => return err,
        },
        .count => try count(lock, try std.fmt.parseInt(u32, words.rest(), 10)),
        .open, .trap => unreachable,
    }
    return "";
}

export fn exports_test_run(command: *String, reply: *String) void {
    defer test_string_free(command);
    var buffer: [64]u8 = undefined;
    const text = if (obey(command.ptr[0..command.len])) |result|
        print(&buffer, "ok{s}{s}", .{ if (result.len > 0) " " else "", result })
    else |err| switch (err) {
        error.Usage, error.Overflow, error.InvalidCharacter => "err usage",
        // Handled where it arrives.
        error.Inside => unreachable,
        else => |known| print(&buffer, "err {s}", .{locket.errorName(known)}),
    };
    test_string_dup_n(reply, text.ptr, text.len);
}

fn print(buffer: []u8, comptime format: []const u8, arguments: anytype) []const u8 {
    return std.fmt.bufPrint(buffer, format, arguments) catch unreachable;
}
