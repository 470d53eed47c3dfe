//! A command component that works while it holds a lock. See the README for how to build it, and run it
//! with `locket run --dir jobs::/jobs job.wasm`.

const std = @import("std");
const locket = @import("locket");

pub fn main() !void {
    var lock = try locket.Lock.open("/jobs/nightly.lock", .{});
    defer lock.close();
    var guard = lock.acquire(.exclusive, 500) catch |err| switch (err) {
        error.Timeout => return std.debug.print("another instance is still working\n", .{}),
        else => return err,
    };
    defer guard.release();
    std.debug.print("working alone\n", .{});
}
