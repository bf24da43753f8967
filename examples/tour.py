#!/usr/bin/python3
"""The tour that ./quickstart runs: a server, two users and a group, real documents, questions as each
may ask them, an audience, an erasure with its receipt, and the same questions again.

Uses nothing but the lethe and lethed programs (and Python's standard library to read their JSON).
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.path.join(HERE, "library")
GENERATOR = os.path.join(os.path.dirname(HERE), "model", "bundled", "mamba")
BOLD, DIM, OFF = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class Refused(Exception):
    """lethe ended with another exit code than 0."""


class Lethe:
    """The client program as one user."""

    def __init__(self, tour, token):
        self.tour, self.token = tour, token

    def __call__(self, *arguments):
        env = dict(os.environ, LETHE_TOKEN=self.token, LETHE_CA=self.tour.ca,
                   LETHE_SERVER=self.tour.server)
        done = subprocess.run([self.tour.program("lethe"), *arguments, "--json"], env=env, cwd=LIBRARY,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Refused(done.stderr.strip())
        return json.loads(done.stdout)


class Tour:
    def __init__(self, options):
        self.options = options
        self.data = os.path.abspath(options.data)
        self.process, self.server, self.ca = None, "", ""
        self.summary = []

    def program(self, name):
        return os.path.join(os.path.abspath(self.options.bin), name)

    def title(self, text):
        print(f"\n{BOLD}== {text}{OFF}", flush=True)

    def shown(self, text):
        self.summary.append(text)

    # ---- the server -------------------------------------------------------------------------------
    def init(self):
        self.title("A fresh data folder")
        for folder in (self.data, self.data + ".root"):
            if os.path.exists(folder):
                shutil.rmtree(folder)
        out = subprocess.run([self.program("lethe"), "init", "--data", self.data, "--tenant", "harbour",
                              "--json"], check=True, stdout=subprocess.PIPE, text=True).stdout
        made = json.loads(out)
        self.ca, self.key = made["ca"], made["key"]
        print(f"data   {self.data}\nroot   {self.data}.root   (the root key lives apart)\n"
              f"tenant {made['tenant']}, its admin {made['user']}")
        return made["token"]

    def start(self):
        self.title("The server: TLS, bearer tokens")
        command = [self.program("lethed"), "--data", self.data, "--listen",
                   f"127.0.0.1:{self.options.port}"]
        if self.options.model != "none":
            command += ["--model", self.options.model]
        log = open(os.path.join(self.data, "server.log"), "w")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                                        start_new_session=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening "):
            sys.exit("the server did not start; see " + log.name)
        self.server = line.split()[1]
        print(f"lethed listens on {self.server}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    # ---- the steps ----------------------------------------------------------------------------------
    def people(self, admin):
        self.title("Users ada and bob; ada is in the group oncall")
        users = {}
        for name in ("ada", "bob"):
            admin("user", "add", name)
            users[name] = Lethe(self, admin("token", "issue", name)["token"])
        admin("group", "add", "oncall")
        admin("group", "join", "oncall", "ada")
        for user in users.values():
            me = user("whoami")
            print(f"{me['name']} ({me['id']}), groups: {', '.join(me['groups']) or 'none'}")
        return users

    def ingest(self, users):
        self.title("Real documents: some private to ada, some to bob, some the group's, some shared")
        stored = {}
        for who, arguments, words in (
                ("ada", ["ada"], "private to ada"),
                ("bob", ["bob"], "private to bob"),
                ("ada", ["oncall", "--owner", "group:oncall"], "the group oncall's"),
                ("ada", ["shared", "--share", "user:bob"], "ada's, shared with bob")):
            start = time.monotonic()
            out = users[who]("put", *arguments)
            stored.update({d["path"]: d["id"] for d in out["documents"]})
            print(f"{len(out['documents']):3d} documents {words} ({time.monotonic() - start:.2f} s)")
        self.shown(f"{len(stored)} documents stored, encrypted, under four labels")
        return stored

    def ask(self, user, question, *options):
        answer = user("ask", question, *options)
        text = answer["answer"].strip() or "(not found in the documents you can read)"
        print(f"   {text}")
        for citation in answer["citations"][:1]:
            print(f"   {DIM}{answer['mode']}; {citation['path']} bytes {citation['start']}.."
                  f"{citation['end']}; label {answer['label']}{OFF}")
        return answer

    def questions(self, users):
        self.title("Questions, as each may ask them")
        right = total = 0
        with open(os.path.join(HERE, "questions.jsonl"), encoding="utf-8") as f:
            triples = [json.loads(line) for line in f if line.strip()]
        for t in triples:
            print(f"\n{t['as']} asks: {t['question']}")
            answer = self.ask(users[t["as"]], t["question"])
            good = (t["answer"].lower() in answer["answer"].lower()
                    and any(c["path"] == t["document"] for c in answer["citations"]))
            total, right = total + 1, right + good
            if not good:
                print(f"   {DIM}expected: {t['answer']} ({t['document']}){OFF}")
        self.shown(f"{total} questions asked, {right} answered correctly from the right document")
        return triples

    def isolation(self, users):
        self.title("bob asks about what is ada's alone")
        leaks = total = 0
        with open(os.path.join(HERE, "forbidden.jsonl"), encoding="utf-8") as f:
            for t in (json.loads(line) for line in f if line.strip()):
                print(f"\nbob asks: {t['question']}")
                answer = self.ask(users["bob"], t["question"])
                hits = users["bob"]("search", t["question"], "-k", "20")["hits"]
                total += 1
                leaks += any(h["path"].startswith("ada/") for h in hits)
                leaks += any(c["path"].startswith("ada/") for c in answer["citations"])
        ada_only = next(d for d in users["ada"]("ls")["documents"] if d["path"].startswith("ada/"))
        refusals = []
        for identity in (ada_only["id"], "00" * 16, "no-such-document"):
            try:
                users["bob"]("get", identity)
                leaks += 1
            except Refused as e:
                refusals.append(str(e))
        print(f"\nbob gets ada's document, one that does not exist, and a malformed id:\n   {refusals[0]}")
        if leaks or len(set(refusals)) != 1:
            sys.exit("bob saw something of ada's: this must never happen")
        self.shown(f"{total} questions about ada's documents gave bob 0 passages of hers; "
                   "denied, absent and malformed ids get the same words")

    def audience(self, users, triples):
        self.title("An answer for a channel: --audience group:oncall")
        mine = next(t for t in triples if t["as"] == "ada" and t["document"].startswith("ada/"))
        print(f"ada asks for herself: {mine['question']}")
        self.ask(users["ada"], mine["question"])
        print("ada asks the same for the group (only what flows to the group as such is used):")
        for citation in self.ask(users["ada"], mine["question"], "--audience",
                                 "group:oncall")["citations"]:
            if not citation["path"].startswith("oncall/"):
                sys.exit("the audience was not respected: this must never happen")
        self.shown("an answer for the group oncall used the group's documents only")

    def erasure(self, admin, users, triples, stored):
        self.title("bob shares a document with ada; then bob is erased")
        question = next(t for t in triples if t["document"].startswith("bob/"))
        users["bob"]("share", stored[question["document"]], "user:ada")
        print(f"ada asks: {question['question']}")
        before = self.ask(users["ada"], question["question"])
        receipt = os.path.join(self.data, "receipt-bob.json")
        start = time.monotonic()
        admin("erase", "user", "bob", "--receipt", receipt)
        print(f"\nlethe erase user bob: COMPLETE in {time.monotonic() - start:.2f} s")
        verdict = subprocess.run([self.program("lethe"), "verify", receipt, "--key", self.key, "--json"],
                                 stdout=subprocess.PIPE, text=True).stdout
        verdict = json.loads(verdict)
        print(f"lethe verify (offline): valid {verdict['valid']}, trusted {verdict['trusted']}")
        try:
            users["bob"]("whoami")
            sys.exit("bob's token still works: this must never happen")
        except Refused as e:
            print(f"bob's token: {e}")
        print(f"\nada asks again: {question['question']}")
        after = self.ask(users["ada"], question["question"])
        if any(c["path"] == question["document"] for c in after["citations"]) or not verdict["trusted"]:
            sys.exit("bob's document is still there, or the receipt does not verify")
        left = users["ada"]("ls")["documents"]
        if any(d["path"].startswith("bob/") for d in left):
            sys.exit("bob's documents are still listed")
        used = any(c["path"] == question["document"] for c in before["citations"])
        self.shown("bob erased by destroying keys; the receipt verifies; his documents answer nobody"
                   + (" (ada had just been answered from one)" if used else ""))
        self.shown(f"what is left to ada: {len(left)} documents, the group's among them")

    def run(self):
        start = time.monotonic()
        token = self.init()
        self.start()
        try:
            admin = Lethe(self, token)
            users = self.people(admin)
            stored = self.ingest(users)
            triples = self.questions(users)
            self.isolation(users)
            self.audience(users, triples)
            self.erasure(admin, users, triples, stored)
            self.title("What was shown")
            for line in self.summary:
                print(f"* {line}")
            print(f"({time.monotonic() - start:.1f} s after the build)")
            if self.options.serve:
                ada = os.path.join(self.data, "ada.token")
                with open(os.open(ada, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
                    f.write(users["ada"].token + "\n")
                print(f"\nThe server goes on (pid {self.process.pid}). Ask as ada:\n"
                      f"  {os.path.relpath(self.program('lethe'))} ask 'your question' --server "
                      f"{self.server} --ca {os.path.relpath(self.ca)} --token-file "
                      f"{os.path.relpath(ada)}\nStop it with: kill {self.process.pid}")
        finally:
            if not self.options.serve:
                self.stop()


def main():
    parser = argparse.ArgumentParser(description="Lethe's tour")
    parser.add_argument("--bin", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--serve", action="store_true", help="leave the server running")
    parser.add_argument("--model", default=GENERATOR if os.path.isdir(GENERATOR) else "none",
                        help="generator folder; none: extractive answers")
    parser.add_argument("--port", type=int, default=0)
    Tour(parser.parse_args()).run()


if __name__ == "__main__":
    main()
