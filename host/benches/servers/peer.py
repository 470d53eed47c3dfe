"""etcd3, the library of Python, as a process that takes as many turns as each line says."""

import sys
import time

import etcd3

host, port = sys.argv[1].split(":")
client = etcd3.client(host=host, port=int(port), timeout=30)
lock = client.lock("python", ttl=60)
print("ready", flush=True)
for line in sys.stdin:
    start = time.monotonic_ns()
    for _ in range(int(line)):
        assert lock.acquire(timeout=30)
        lock.release()
    print(time.monotonic_ns() - start, flush=True)
