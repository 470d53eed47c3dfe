// The test guest in C++.
#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "locket.hpp"
#include "test.h"

using namespace std::chrono_literals;
using namespace std::string_view_literals;

namespace {

// A reply: what a command results in, or the name of its error.
using reply = std::expected<std::string, std::string>;

std::map<std::string, locket::lock_file, std::less<>> locks;

template <class T>
reply told(const locket::result<T> &result) {
    if (!result) return std::unexpected(result.error().name());
    return "";
}

// Cuts the first word off.
std::string_view word(std::string_view &rest) {
    auto found = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), found.size() + 1));
    return found;
}

// Milliseconds, or `none`.
std::optional<locket::timeout> parse(std::string_view text) {
    if (text == "none") return locket::forever;
    std::uint64_t millis;
    auto [end, error] = std::from_chars(text.begin(), text.end(), millis);
    if (error != std::errc{} || end != text.end()) return {};
    return std::chrono::duration<std::uint64_t, std::milli>(millis);
}

reply open(std::string_view name, std::string_view path) {
    static constexpr std::string_view protocols[] = {
        "",     "native",  "flock", "fcntl",    "link",
        "symlink", "mkdir", "pid-file", "soft", "sqlite"};
    locket_options options{};
    auto space = path.rfind(' ');
    if (space != path.npos) {
        auto protocol = std::ranges::find(protocols, path.substr(space + 1));
        if (protocol != std::end(protocols)) {
            options.protocol = locket_protocol(protocol - protocols);
            path = path.substr(0, space);
        }
    }
    auto lock = locket::lock_file::open(path, options);
    if (lock) locks.insert_or_assign(std::string{name}, std::move(*lock));
    return told(lock);
}

// Fails inside of the scope.
reply scoped(locket::lock_file &lock, locket::timeout timeout) {
    auto guard = lock.acquire(timeout);
    if (!guard) return std::unexpected(guard.error().name());
    return std::unexpected("inside");
}

reply count(locket::lock_file &lock, int times) {
    for (int i = 0; i < times; i++) {
        auto guard = lock.acquire();
        if (!guard) return std::unexpected(guard.error().name());
        locket_test_counter_write(locket_test_counter_read() + 1);
    }
    return "";
}

std::string shown(const locket_state &state) {
    static constexpr std::string_view names[] = {"unlocked", "held", "uncertain"};
    if (state.is == LOCKET_LOST) return locket_error_name(state.lost);
    return std::string{names[state.is]};
}

reply obey(std::string_view rest) {
    auto verb = word(rest), name = word(rest);
    if (verb == "trap") __builtin_trap();
    if (verb == "open") return open(name, rest);
    auto found = locks.find(name);
    if (found == locks.end()) return std::unexpected("closed");
    auto &lock = found->second;
    if (verb == "drop") {
        locks.erase(found);
        return "";
    }
    if (verb == "release") return told(lock.release());
    if (verb == "state") return shown(lock.state());
    if (verb == "is-locked") {
        return lock.is_locked()
            .transform([](bool is) { return is ? "true" : "false"; })
            .transform_error(&locket::error::name);
    }
    if (verb == "count") return count(lock, std::stoi(std::string{rest}));
    auto how = verb == "acquire" && word(rest) == "shared" ? locket::mode::shared
                                                           : locket::mode::exclusive;
    auto timeout = parse(rest);
    if (!timeout) return std::unexpected("usage");
    if (verb == "acquire") return told(lock.lock(how, *timeout));
    auto failed = scoped(lock, *timeout);
    if (failed.error() == "inside") return failed.error();
    return failed;
}

}  // namespace

extern "C" void exports_test_run(test_string_t *command, test_string_t *answer) {
    auto reply = obey({reinterpret_cast<char *>(command->ptr), command->len});
    test_string_free(command);
    auto text = reply ? "ok" + (reply->empty() ? "" : " " + *reply) : "err " + reply.error();
    test_string_dup_n(answer, text.data(), text.size());
}
