"""A running Lethe for the end-to-end scripts: data folder, server, the lethe program, and Python clients
whose stubs are made from the .proto files alone, at start, in a temporary folder.

Also the harness: named checks that print TAP. A check fails with Wrong when an assertion about Lethe
does not hold; any other exception is the script's or the machine's trouble and is told apart, so that
a mutant cannot pass for caught because its server did not start.
"""
import atexit
import collections
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
START_S, STOP_S, CALL_S = 120, 120, 120        # far above what is needed: they end a hang, no more
SERVICES = ("Answers", "Documents", "Erasure", "Access", "Admin")


# ---- checks ------------------------------------------------------------------------------------------
class Wrong(Exception):
    """Lethe did what it must not."""


class Skip(Exception):
    """This machine cannot run the check."""


def expect(condition, words):
    if not condition:
        raise Wrong(words)


def expect_equal(got, wanted, words):
    if got != wanted:
        raise Wrong(f"{words}: {short(got)} instead of {short(wanted)}")


def short(value, most=300):
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."


Check = collections.namedtuple("Check", "name run mutants")
CHECKS = []


def check(name, **mutants):
    """Registers a check. mutants: which broken variants must make it fail, and a pattern that the words
    of the failure must match."""
    def register(run):
        CHECKS.append(Check(name, run, mutants))
        return run
    return register


def run_checks(world, words, exact=False):
    """Runs the checks whose name contains (exact: is) one of the words; none: all. The exit code."""
    chosen = [c for c in CHECKS
              if not words or any(w == c.name if exact else w in c.name for w in words)]
    failed = 0
    for number, c in enumerate(chosen, 1):
        start = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                c.run(Scene(world, stack, c.name))
            print(f"ok {number} - {c.name} ({time.monotonic() - start:.1f} s)")
        except Skip as e:
            print(f"ok {number} - {c.name} # SKIP {e}")
        except Wrong as e:
            failed += 1
            print(f"not ok {number} - {c.name}\n# wrong: {e}")
        except Exception:
            failed += 1
            trace = traceback.format_exc().rstrip().replace("\n", "\n#   ")
            print(f"not ok {number} - {c.name}\n# error:\n#   {trace}")
            for line in world.last_log():
                print("#   log: " + line)
        sys.stdout.flush()
    print(f"1..{len(chosen)}")
    return 1 if failed or not chosen else 0


class Scene:
    """What one check works in: its own folder and servers, all gone when it ends."""

    def __init__(self, world, stack, name):
        self.world, self.stack = world, stack
        self.folder = tempfile.mkdtemp(prefix=re.sub(r"\W", "-", name) + "-", dir=world.folder)
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, name, content):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        return path

    def house(self, *options, name="data", start=True, **settings):
        house = House(self.world, self.path(name), options, **settings)
        self.stack.push(house.finish)
        house.init()
        if start:
            house.start()
        return house

    def town(self, *options, **settings):
        """A house with users ada, bob and cay and the groups oncall (ada, bob) and garden (ada, cay)."""
        return Town(self.house(*options, **settings))

    def model(self, name="model", d_model=384, layers=8, seed=7):
        folder = self.path(name)
        subprocess.run([self.world.find("make_random_model"), folder, str(seed), str(d_model),
                        str(layers), "320"], check=True)
        # It never ends an answer by itself: what random weights say must not decide a check.
        path = os.path.join(folder, "config.json")
        with open(path) as f:
            config = json.load(f)
        config["eos_token_id"] = None
        with open(path, "w") as f:
            json.dump(config, f)
        return folder


# ---- the world: build folder, temporary folder, stubs ----------------------------------------------------
class World:
    def __init__(self, build):
        self.build = os.path.abspath(build)
        self.folder = tempfile.mkdtemp(prefix="lethe-e2e-")
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda n, _: sys.exit(128 + n))
        os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
        os.environ.setdefault("LSAN_OPTIONS", "print_suppressions=0")
        self.logs = []
        self.pb = make_stubs(os.path.join(self.folder, "stubs"))

    def program(self, name):
        return os.path.join(self.build, "bin", name)

    def find(self, name):
        for path in glob.glob(os.path.join(self.build, "**", name), recursive=True):
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        raise FileNotFoundError(f"{name} is not in the build folder")

    def last_log(self, lines=20):
        for path in self.logs[-1:]:
            with contextlib.suppress(OSError), open(path, errors="replace") as f:
                return f.read().splitlines()[-lines:]
        return []


def make_stubs(folder):
    """Every message and stub of the .proto files, in one namespace."""
    os.makedirs(folder)
    proto = os.path.join(ROOT, "proto")
    files = [f"lethe/v1/{s.lower()}.proto" for s in SERVICES]
    files += ["grpc/health/v1/health.proto", "grpc/reflection/v1alpha/reflection.proto"]
    subprocess.run(["protoc", f"-I{proto}", f"--python_out={folder}", f"--grpc_out={folder}",
                    "--plugin=protoc-gen-grpc=" + shutil.which("grpc_python_plugin"), *files],
                   check=True)
    sys.path.insert(0, folder)
    grpc.__path__.append(os.path.join(folder, "grpc"))
    import importlib
    names = {}
    for f in files:
        module = f[:-len(".proto")].replace("/", ".")
        for suffix in ("_pb2", "_pb2_grpc"):
            names.update(vars(importlib.import_module(module + suffix)))
    return type("Stubs", (), {k: staticmethod(v) if not isinstance(v, type) else v
                              for k, v in names.items() if not k.startswith("_")})


# ---- one server --------------------------------------------------------------------------------------------
class House:
    def __init__(self, world, data, options=(), env=None, prefix=(), tenant="harbour",
                 log=None):
        self.world, self.data, self.root = world, data, data + ".root"
        self.options, self.env, self.prefix, self.tenant = list(options), env or {}, list(prefix), tenant
        self.log = log or data + ".log"
        self.process, self.address = None, None
        self.clients = []
        self.tokens = set()

    def init(self):
        out = subprocess.run([*self.prefix, self.world.program("lethe"), "init", "--data", self.data,
                              "--tenant", self.tenant, "--json"], check=True, stdout=subprocess.PIPE)
        made = json.loads(out.stdout)
        self.admin_token, self.operator_token = made["token"], made["operator_token"]
        self.tokens |= {self.admin_token, self.operator_token}
        self.ca, self.key = made["ca"], made["key"]
        self.ca_pem = self.slurp(self.ca)

    def slurp(self, path):
        return subprocess.run([*self.prefix, "cat", path], check=True, stdout=subprocess.PIPE).stdout

    def command(self, options=()):
        quotas = ["--quota-requests-per-second", "0", "--quota-concurrent-calls", "0"]
        # These reach for the root folder, which the sandbox alone would stop.
        if os.environ.get("LETHE_MUTANT") in ("backup_includes_root", "keeper_key_in_server"):
            quotas += ["--sandbox", "off"]
        return [*self.prefix, self.world.program("lethed"), "--data", self.data, "--listen",
                "127.0.0.1:0", *quotas, *self.options, *options]

    def launch(self, *options):
        """Starts without waiting for it to listen."""
        self.world.logs.append(self.log)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(options), stdout=subprocess.PIPE, stderr=log,
                                            env={**os.environ, **self.env})
        return self.process

    def start(self, *options):
        process = self.launch(*options)
        watchdog = Timer(START_S, process.kill)
        line = process.stdout.readline().decode()
        watchdog.cancel()
        if not line.startswith("listening "):
            process.wait()
            raise RuntimeError("lethed did not start: " + " | ".join(self.world.last_log(3)))
        self.address = line.split()[1]
        return self

    def fails_to_start(self, *options):
        """Runs lethed, which must end by itself; (exit code, what it said)."""
        before = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        process = self.launch(*options)
        watchdog = Timer(START_S, process.kill)
        line = process.stdout.readline().decode()
        if line:
            process.kill()
        code = process.wait()
        watchdog.cancel()
        process.stdout.close()
        with open(self.log, "rb") as f:
            f.seek(before)
            said = f.read().decode(errors="replace")
        return (None if line else code), said

    def disconnect(self):
        for client in self.clients:
            client.close()
        self.clients = []

    def stop(self):
        """SIGTERM; the server must end well (no leaks under the sanitizers, either)."""
        self.disconnect()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_S)
        self.process.stdout.close()
        self.process = None
        expect_equal(code, 0, "lethed's exit code after SIGTERM")

    def kill(self):
        """As the machine would: SIGKILL."""
        self.disconnect()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def finish(self, failure, *_):
        """At the end of a check: a server still running must end well, unless the check failed."""
        try:
            if self.process is not None and self.process.poll() is None and failure is None:
                self.stop()
        finally:
            self.kill()
        if failure is None and os.path.exists(self.log):
            for words in ("Sanitizer", "runtime error:"):
                expect(words not in self.log_text(), "a sanitizer's report in the server's log")

    def restart(self, *options):
        self.stop()
        self.start(*options)

    def log_text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def client(self, token=None, **settings):
        client = Client(self, token, **settings)
        self.clients.append(client)
        return client

    def lethe(self, token, *arguments, json_out=True, cwd=None, env=None):
        """The program lethe as somebody: an Outcome."""
        base = {k: v for k, v in os.environ.items() if k not in ("LETHE_TOKEN", "LETHE_CA")}
        base.update(LETHE_SERVER=self.address or "127.0.0.1:1", LETHE_CA=self.ca)
        if token is not None:
            base["LETHE_TOKEN"] = token
        base.update(env or {})
        done = subprocess.run([self.world.program("lethe"), *arguments, *(["--json"] if json_out else [])],
                              env=base, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=CALL_S * 2)
        out = done.stdout.decode(errors="replace")
        value = None
        if json_out and out.strip():
            value = json.loads(out)
            expect_equal(len(out.strip().splitlines()), 1, f"lethe {arguments[0]} --json: lines")
        return Outcome(done.returncode, value, out, done.stderr.decode(errors="replace"))


Outcome = collections.namedtuple("Outcome", "code json out err")


class Timer:
    """threading.Timer that does not keep the script alive."""

    def __init__(self, seconds, act):
        import threading
        self.timer = threading.Timer(seconds, act)
        self.timer.daemon = True
        self.timer.start()

    def cancel(self):
        self.timer.cancel()


# ---- clients -----------------------------------------------------------------------------------------------
# Everything that a caller receives from one call: it must be equal wherever it must tell nothing.
Seen = collections.namedtuple("Seen", "code details initial trailing messages")


class Client:
    """One channel with one token. The stubs are self.answers, self.documents and so on."""

    def __init__(self, house, token, ca=None, metadata=None):
        self.pb = pb = house.world.pb
        credentials = grpc.ssl_channel_credentials(ca or house.ca_pem)
        if token is not None:
            credentials = grpc.composite_channel_credentials(
                credentials, grpc.access_token_call_credentials(token))
        self.token, self.metadata = token, metadata
        self.channel = grpc.secure_channel(house.address, credentials, options=[
            ("grpc.max_receive_message_length", 64 << 20),
            ("grpc.use_local_subchannel_pool", 1)])
        for service in SERVICES:
            setattr(self, service.lower(), getattr(pb, service + "Stub")(self.channel))

    def close(self):
        self.channel.close()

    def raw(self, path, request):
        """An open call whose messages stay bytes. request: a message or bytes."""
        send = request if isinstance(request, bytes) else request.SerializeToString(deterministic=True)
        method = self.channel.unary_stream(path, request_serializer=None, response_deserializer=None)
        return method(send, timeout=CALL_S, metadata=self.metadata)

    def seen(self, method, request):
        """method: "Answers/Search" and the like."""
        call = self.raw("/lethe.v1." + method, request)
        messages = []
        with contextlib.suppress(grpc.RpcError):
            for message in call:
                messages.append(message)
        return Seen(call.code().name, call.details(), tuple(map(tuple, call.initial_metadata() or ())),
                    tuple(map(tuple, call.trailing_metadata() or ())), tuple(messages))

    # ---- in few words ------------------------------------------------------------------------------------
    def put(self, *documents, piece=1 << 18):
        """documents: dicts of a header's fields and content. The whole response."""
        def stream():
            for d in documents:
                header = {k: v for k, v in d.items() if k != "content"}
                yield self.pb.PutRequest(header=self.pb.PutHeader(**header))
                content = d["content"] if isinstance(d["content"], bytes) else d["content"].encode()
                for at in range(0, len(content), piece):
                    yield self.pb.PutRequest(data=content[at:at + piece])
        return self.documents.Put(stream(), timeout=CALL_S)

    def store(self, path, content, **header):
        """Puts one document and gives its id."""
        response = self.put({"path": path, "content": content, **header})
        if len(response.documents) != 1:
            raise RuntimeError(f"put failed: {short(response)}")
        return response.documents[0].id

    def get(self, document):
        text = b""
        for part in self.documents.Get(self.pb.GetRequest(id=document), timeout=CALL_S):
            if part.WhichOneof("part") == "text":
                text += part.text
        return text

    def search(self, query, k=100, **more):
        request = self.pb.SearchRequest(query=query, k=k, **more)
        return list(self.answers.Search(request, timeout=CALL_S).hits)

    def ask(self, question, **more):
        """(passages, the tokens' frames, the final frame)."""
        request = self.pb.AskRequest(question=question, **more)
        passages, tokens, final = None, [], None
        for frame in self.answers.Ask(request, timeout=CALL_S):
            kind = frame.WhichOneof("frame")
            if kind == "passages":
                passages = list(frame.passages.passages)
            elif kind == "token":
                tokens.append(frame)
            else:
                final = frame.final
        return passages, tokens, final

    def list(self):
        documents, token = [], ""
        while True:
            page = self.documents.List(self.pb.ListRequest(page_token=token), timeout=CALL_S)
            documents += page.documents
            token = page.next_page_token
            if not token:
                return documents

    def share(self, document, who):
        return self.documents.Share(self.pb.ShareRequest(document=document, who=who), timeout=CALL_S)

    def unshare(self, document, who):
        return self.documents.Unshare(self.pb.ShareRequest(document=document, who=who),
                                      timeout=CALL_S)

    def erase(self, **target):
        return self.erasure.Erase(self.pb.EraseRequest(**target), timeout=CALL_S)

    def stats(self):
        return self.admin.Stats(self.pb.StatsRequest(), timeout=CALL_S)

    def whoami(self):
        return self.access.WhoAmI(self.pb.WhoAmIRequest(), timeout=CALL_S)

    def user(self, name):
        return self.access.CreateUser(self.pb.NameRequest(name=name), timeout=CALL_S).id

    def group(self, name, *members):
        self.access.CreateGroup(self.pb.NameRequest(name=name), timeout=CALL_S)
        for member in members:
            self.join(name, member)

    def join(self, group, member):
        self.access.JoinGroup(self.pb.MembershipRequest(group=group, member=member), timeout=CALL_S)

    def leave(self, group, member):
        self.access.LeaveGroup(self.pb.MembershipRequest(group=group, member=member), timeout=CALL_S)

    def issue(self, name):
        return self.access.IssueToken(self.pb.NameRequest(name=name), timeout=CALL_S)

    def revoke(self, token_id):
        self.access.RevokeToken(self.pb.RevokeTokenRequest(id=token_id), timeout=CALL_S)


def refusal(act):
    """The status code's name with which the call fails; None if it does not."""
    try:
        act()
    except grpc.RpcError as e:
        return e.code().name
    return None


def readers(label):
    """Who may read, of a label as people see it: "{user:ada|group:oncall}, endorsed by {user:ada}"."""
    return set(label.split("}")[0].lstrip("{").split("|"))


class Town:
    def __init__(self, house):
        self.house = house
        self.admin = house.client(house.admin_token)
        self.operator = house.client(house.operator_token)
        self.token = {}
        for name in ("ada", "bob", "cay"):
            self.add_user(name)
        self.admin.group("oncall", "ada", "bob")
        self.admin.group("garden", "ada", "cay")

    def add_user(self, name):
        self.admin.user(name)
        self.token[name] = self.admin.issue(name).token
        self.house.tokens.add(self.token[name])
        setattr(self, name, self.house.client(self.token[name]))
        return getattr(self, name)

    def again(self):
        """New channels, after the server was started again."""
        for name, token in [("admin", self.house.admin_token), ("operator", self.house.operator_token),
                            *self.token.items()]:
            setattr(self, name, self.house.client(token))
