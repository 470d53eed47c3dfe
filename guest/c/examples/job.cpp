// Works only while no other instance does.
#include <cstdio>

#include "locket.hpp"

static int report(locket::error error) {
    std::fprintf(stderr, "/jobs/job.lock: %s\n", error.message());
    return 1;
}

int main() {
    using namespace std::literals;

    auto lock = locket::lock_file::open("/jobs/job.lock");
    if (!lock) return report(lock.error());
    auto guard = lock->acquire(30s);
    if (!guard) return report(guard.error());
    std::puts("working alone");
}
