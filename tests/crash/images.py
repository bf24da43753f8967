"""Disks as they may look after a power failure, from the journal of tests/crash/shim.c.

The model is harsh: of a file, what was synced is there; each later write is there, lost, or torn at 512 bytes,
each for itself. Of a folder, what was synced is there; of the creations, renames and removals since, any prefix is.
"""
import os
import shutil
import struct

(CREATE, WRITE, TRUNCATE, SYNC, SYNC_DIR, RENAME, UNLINK, MKDIR, RMDIR, WRITE_SYNC, KILLED) = range(1, 12)
NAMES = {CREATE: "create", WRITE: "write", TRUNCATE: "truncate", SYNC: "sync", SYNC_DIR: "sync folder",
         RENAME: "rename", UNLINK: "unlink", MKDIR: "mkdir", RMDIR: "rmdir", WRITE_SYNC: "write through"}
SECTOR = 512


def journal(path):
    """[(operation, offset, path, data)]; a record cut off at the end is left out."""
    with open(path, "rb") as f:
        raw = f.read()
    at, out = 0, []
    while at + 20 <= len(raw):
        length, op, offset, path_size = struct.unpack_from("<IIQI", raw, at)
        size = length - 16 - path_size
        if at + 20 + path_size + size > len(raw):
            break
        name = raw[at + 20:at + 20 + path_size].decode()
        out.append((op, offset, name, raw[at + 20 + path_size:at + 20 + path_size + size]))
        at += 20 + path_size + size
    return out


def place_of(path):
    """A word for the kind of file, for the table."""
    for word in ("keytree/pages", "keytree/head", "root.", "intents/", "stores/", "acl.mdb", "log/"):
        if word in path:
            return word.strip("/.")
    return "other"


class File:
    def __init__(self, content=b""):
        self.durable, self.pending = bytearray(content), []

    def apply(self, content, change):
        offset, data = change
        if data is None:
            del content[offset:]
            content.extend(bytes(offset - len(content)))
            return
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset:offset + len(data)] = data

    def sync(self):
        for change in self.pending:
            self.apply(self.durable, change)
        self.pending = []

    def image(self, rng):
        content = bytearray(self.durable)
        for offset, data in self.pending:
            fate = rng.randrange(3)
            if fate == 0:
                continue
            if fate == 1 or data is None or len(data) <= SECTOR:
                self.apply(content, (offset, data))
                continue
            for part in range(0, len(data), SECTOR):
                if rng.random() < 0.5:
                    self.apply(content, (offset + part, data[part:part + SECTOR]))
        return bytes(content)


class Disk:
    """Folders are dicts name -> File or None (a folder); changes of a folder wait until it is synced."""

    def __init__(self, *folders):
        self.now, self.durable, self.pending = {}, {}, {}
        for top in folders:
            for where, _, names in os.walk(top):
                self.now[where] = {}
                for name in names:
                    path = os.path.join(where, name)
                    with open(path, "rb") as f:
                        self.now[where][name] = File(f.read())
        self.durable = {d: dict(entries) for d, entries in self.now.items()}

    def file(self, path):
        folder, name = os.path.split(path)
        return self.now.get(folder, {}).get(name)

    def change(self, path, file):
        """file None: the name goes."""
        folder, name = os.path.split(path)
        entries = self.now.setdefault(folder, {})
        if file is None:
            entries.pop(name, None)
        else:
            entries[name] = file
        self.pending.setdefault(folder, []).append((name, file))

    def replay(self, records):
        for op, offset, path, data in records:
            f = self.file(path)
            if op == CREATE:
                self.change(path, File())
            elif op in (WRITE, WRITE_SYNC, TRUNCATE) and f is not None:
                f.pending.append((offset, None if op == TRUNCATE else data))
                if op == WRITE_SYNC:
                    f.sync()
            elif op == SYNC and f is not None:
                f.sync()
            elif op == SYNC_DIR:
                self.sync_folder(path.rstrip("/"))
            elif op == RENAME:
                to = data.decode()
                moved = self.file(path)
                assert os.path.dirname(to) == os.path.dirname(path), "a rename across folders"
                self.change(path, None)
                self.pending[os.path.dirname(path)].pop()
                self.change(to, moved)
                self.pending[os.path.dirname(to)][-1] = (os.path.basename(to), moved, os.path.basename(path))
                self.now[os.path.dirname(path)].pop(os.path.basename(path), None)
            elif op == UNLINK:
                self.change(path, None)
            elif op == MKDIR:
                self.now.setdefault(path.rstrip("/"), {})
                self.durable.setdefault(path.rstrip("/"), {})   # an empty folder more does no harm

    @staticmethod
    def settle(entries, change):
        name, file = change[0], change[1]
        if len(change) == 3:
            entries.pop(change[2], None)
        if file is None:
            entries.pop(name, None)
        else:
            entries[name] = file

    def sync_folder(self, folder):
        entries = self.durable.setdefault(folder, {})
        for change in self.pending.pop(folder, []):
            self.settle(entries, change)

    def image(self, rng, moved):
        """Writes one possible disk. moved: path as journalled -> path to write to."""
        for folder, durable in sorted(self.durable.items()):
            entries, waiting = dict(durable), self.pending.get(folder, [])
            for change in waiting[:rng.randint(0, len(waiting))]:
                self.settle(entries, change)
            os.makedirs(moved(folder), exist_ok=True)
            os.chmod(moved(folder), 0o700)
            for name, file in entries.items():
                to = os.path.join(moved(folder), name)
                with open(to, "wb") as f:
                    f.write(file.image(rng))
                os.chmod(to, 0o600)


def copy(data, to):
    for suffix in ("", ".root"):
        shutil.rmtree(to + suffix, ignore_errors=True)
        shutil.copytree(data + suffix, to + suffix)
