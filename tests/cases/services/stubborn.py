"""A service that does everything to survive its stop: children, a double fork, new sessions, ignored signals."""
import os
import signal
import sys
import time

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)


def stay():
    while True:
        time.sleep(1000)


if os.fork() == 0:
    stay()
if os.fork() == 0:
    os.setsid()
    stay()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        # A daemon of the old school lets go of everything but its life.
        for descriptor in range(3):
            os.close(descriptor)
        stay()
    os._exit(0)
print("ready", flush=True)
if sys.argv[1:] == ["leave"]:
    os._exit(0)
stay()
