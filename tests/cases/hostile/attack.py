"""Makes attacks, by name, and says in one line each what came of it. `--list` prints all with their groups."""
import errno
import json
import os
import signal
import sys

import common
import kernel
import neighbours
import network
import resources
import supervisor

# For all of an attack. Those that are refused are refused at once.
SECONDS_MAX = 20


def late(_signal, _frame):
    raise common.Contained(f"nothing came of it in {SECONDS_MAX} s")


def one(name):
    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS_MAX)
    try:
        verdict, why = "done", common.ATTACKS[name]()
    except OSError as error:
        verdict, why = "contained", errno.errorcode.get(error.errno, str(error))
    except common.Contained as error:
        verdict, why = "contained", str(error)
    signal.alarm(0)
    say(name, verdict, why)


def say(name, verdict, why):
    print(f"verdict: {name}: {verdict}: {why}", flush=True)


def main():
    if sys.argv[1] == "--list":
        print(json.dumps([[name, act.__module__, act.__doc__] for name, act in common.ATTACKS.items()]))
        return
    for name in sys.argv[1:]:
        # Each in a process of its own, so that none is in the way of the next.
        pid = os.fork()
        if pid == 0:
            try:
                one(name)
            finally:
                os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if os.WIFSIGNALED(status):
            say(name, "contained", signal.Signals(os.WTERMSIG(status)).name)
    print("end of attacks", flush=True)


main()
