"""The root key stands in a process of its own: the server has nothing of it, and without it does nothing."""
import glob
import os
import shutil
import signal
import socket
import time

from house import Skip, check, expect, expect_equal, refusal


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


def probed(scene, name, *options):
    """What a thread within the server could do, and its house."""
    library = os.path.join(scene.world.build, "tests", "libsandbox_probe.so")
    if not os.path.exists(library):
        raise Skip("no probe in this build (sanitizers)")
    data, secret, own = scene.path(name), scene.path(name + ".secret"), scene.path(name + ".backups")
    os.mkdir(own)                      # the one folder besides its data that the server reads and writes
    library = shutil.copy(library, own)
    with open(secret, "w", encoding="utf-8") as f:
        f.write("another's")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        env = {"LD_PRELOAD": library, "PROBE_OUT": own, "PROBE_ROOT": data + ".root/root.1",
               "PROBE_SECRET": secret, "PROBE_WRITE": secret + ".new", "PROBE_DATA": data + "/acl.mdb",
               "PROBE_PORT": str(listening.getsockname()[1])}
        house = scene.house("--backup-dir", own, *options, name=name, env=env)
        deadline = time.monotonic() + 30
        while not os.path.exists(own + "/probe") and time.monotonic() < deadline:
            time.sleep(0.1)
    with open(own + "/probe", encoding="utf-8") as f:
        return f.read().split(), house


@check("sandboxed", sandbox_off="may do")
def sandboxed(scene):
    """A thread of the server reads neither the root key nor what is another's, connects to nothing, runs nothing.
    The control: without the sandbox it does, most of it."""
    could, house = probed(scene, "inside")
    no_landlock = "sandbox_no_landlock" in house.log_text()
    allowed = {"data", "done"} | ({"root", "secret", "passwd", "write", "run"} if no_landlock else set())
    expect_equal(sorted(set(could) - allowed), [], "what code within the server may do")
    expect("done" in could and "data" in could, "the probe did not run to its end")
    for task in glob.glob(f"/proc/{house.process.pid}/task/*/status"):
        with open(task, encoding="utf-8") as f:
            status = f.read()
        expect("Seccomp:\t2" in status and "NoNewPrivs:\t1" in status, "what a thread may do: it has no filter")
    free, _ = probed(scene, "outside", "--sandbox", "off")
    for word in ("root", "secret", "passwd", "write", "connect", "run", "data", "done"):
        expect(word in free, f"the control: {word} fails without the sandbox, too")
