"""A child takes memory until it is stopped; its parent and its sibling do nothing, and live on unless somebody ends them."""
import os
import time

if os.fork() == 0:
    time.sleep(1000)
if os.fork() == 0:
    # The kernel chooses the largest one.
    kept = []
    while True:
        kept.append(bytearray(b"x" * (1 << 20)))
print("ready", flush=True)
time.sleep(1000)
