"""
Calls by libvirt-python, in a Python that has it: C{libvirt_calls.py URI COUNT}.  Imports nothing of ours.
"""

import json
import sys
import time

import libvirt

connection = libvirt.open(sys.argv[1])
connection.getLibVersion()
count = int(sys.argv[2])
started = time.perf_counter()
for _ in range(count):
    connection.getLibVersion()
seconds = time.perf_counter() - started
print(json.dumps({"amount": count, "seconds": seconds}))
connection.close()
