"""
Calls by libvirt-python, in a Python that has it: C{libvirt_calls.py URI COUNT THREADS}.

Imports nothing of ours.
"""

import json
import sys
import threading
import time

import libvirt

connection = libvirt.open(sys.argv[1])
connection.getLibVersion()
count, thread_count = int(sys.argv[2]), int(sys.argv[3])
numbers = iter(range(count))


def some() -> None:
    """One after the other, as long as there are any."""
    for _ in numbers:
        connection.getLibVersion()


threads = [threading.Thread(target=some) for _ in range(thread_count - 1)]
started = time.perf_counter()
for thread in threads:
    thread.start()
some()
for thread in threads:
    thread.join()
seconds = time.perf_counter() - started
print(json.dumps({"amount": count, "seconds": seconds}))
connection.close()
