# Before each load: what loads share. A failed check ends it with a traceback.
# TIMES, how much of everything, stands before this.
import hashlib, http.client, os, random, re, signal, socket, time
from concurrent.futures import ThreadPoolExecutor

CLIENTS = 4


def patiently(attempt, seconds=120):
    """Repeats what fails because the program isn't up yet, or again."""
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (OSError, http.client.HTTPException):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def connected(port):
    return patiently(lambda: socket.create_connection(("127.0.0.1", port), timeout=60))


def clients(work):
    """Runs work(0), work(1) and so on at once and gives what they gave."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(work, range(CLIENTS)))


def kill(name, argument=""):
    """SIGKILL for another container's program of this name and argument."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split("\0")
            program = open(f"/proc/{pid}/comm").read().strip()
        except OSError:
            continue
        if program == name and argument in words:
            found.append(int(pid))
    assert len(found) == 1, (name, found)
    os.kill(found[0], signal.SIGKILL)


def digest(data):
    return hashlib.sha256(data).hexdigest()
