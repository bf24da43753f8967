"""The root key stands in a process of its own: the server has nothing of it, and without it does nothing."""
import glob
import os
import signal
import time

from house import check, expect, expect_equal, refusal


def keepers(server):
    """Process ids of the server's children that are keepers."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8") as f:
                head, tail = f.read().rsplit(")", 1)
        except OSError:
            continue
        pid, name = head.split(" (", 1)
        if name == "lethe-keeper" and int(tail.split()[1]) == server:
            found.append(int(pid))
    return found


def open_below(pid, folder):
    """Which descriptors of the process lead into the folder."""
    found = []
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            to = os.readlink(fd)
        except OSError:
            continue
        if to == folder or to.startswith(folder + "/"):
            found.append(to)
    return found


@check("keeper_alone", keeper_key_in_server="server has the root folder open")
def keeper_alone(scene):
    """The root key's folder is open in the keeper, not in the server; and the keeper ends with it."""
    house = scene.town().house
    expect_equal(open_below(house.process.pid, house.root), [], "the server has the root folder open")
    mine = keepers(house.process.pid)
    expect_equal(len(mine), 1, "keepers of the server")
    expect_equal(open_below(mine[0], house.root), [house.root], "the keeper's descriptors in the root folder")
    house.stop()
    expect(not os.path.exists(f"/proc/{mine[0]}"), "the keeper outlives its server")


@check("keeper_dies")
def keeper_dies(scene):
    """Without its keeper the server writes no keys; what was begun is carried to its end at the next start."""
    town = scene.town()
    first = town.ada.store("first.txt", "The tide turns at noon.")
    second = town.ada.store("second.txt", "The crane is down.")
    os.kill(keepers(town.house.process.pid)[0], signal.SIGKILL)
    expect_equal(refusal(lambda: town.ada.erase(document=first)), "UNAVAILABLE", "an erasure without a keeper")
    expect_equal(refusal(lambda: town.admin.user("dan")), "UNAVAILABLE", "a new user's keys without a keeper")
    expect("keeper_gone" in town.house.log_text(), "the log does not tell of the keeper's end")
    town.house.stop()
    town.house.start()
    town.again()
    expect_equal(refusal(lambda: town.ada.get(first)), "NOT_FOUND", "what was to be erased")
    expect_equal(town.ada.get(second), b"The crane is down.", "another document")


@check("keeper_killed")
def keeper_killed(scene):
    """A server that was killed starts again at once: its keeper goes with it."""
    town = scene.town()
    kept = town.ada.store("first.txt", "The tide turns at noon.")
    mine = keepers(town.house.process.pid)[0]
    town.house.kill()
    town.house.start()
    town.again()
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{mine}") and time.monotonic() < deadline:
        time.sleep(0.05)
    expect(not os.path.exists(f"/proc/{mine}"), "the keeper outlives its server")
    expect_equal(town.ada.get(kept), b"The tide turns at noon.", "the document")
