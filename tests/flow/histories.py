"""Random histories of one tenant ("world"), in pairs that differ only in what may not flow to the observer.

The observer is the user uma. The oracle of what may flow is deliberately trivial: a document may flow to uma
if uma's name, or a group that uma may ever be in, is among its readers. A step of a history is either
  visible   the same in both histories of the pair: uma's own requests, and everything that others do with
            documents that may flow to uma, or to the memberships that fix uma's clearance;
  secret    free to differ: what others do among themselves.
"""
import random

OBSERVER = "uma"
OTHERS = ("bob", "cay", "dan")
SPARE = ("eve", "fay")                       # only ever in secret steps: may be erased
USERS = (OBSERVER, *OTHERS, *SPARE)
# name: members at the start. uma is in team, and through the nested club in it; at times in crew.
GROUPS = {"team": ("uma", "bob"), "club": ("group:team", "cay"), "crew": ("bob", "dan"),
          "vault": ("bob", "cay", "eve"), "cellar": ("dan", "fay")}
UMAS = ("team", "club", "crew")              # groups that uma may ever be in
HIDDEN_GROUPS = ("vault", "cellar")
KINDS = ("tenant", "foreign")                # own tenant's secrets differ; only other tenants' do

NOUNS = ("crane pump buoy pilot tide log gasket anchor lantern surgeon salary envelope stair quartz violet"
         " ledger harbour vessel radio channel fuel engine shift monday signal rope").split()
VERBS = "inspects keeps boards needs hides moves holds delivers records repairs raises opens".split()
TAILS = ("before noon", "on monday", "behind the stair", "for the pilot", "in room 7", "at 40 percent",
         "with the old key", "without notice", "by radio", "after the tide")


def sentence(rng):
    return (f"The {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)} "
            f"{rng.choice(TAILS)}.")


def text(rng):
    parts = [" ".join(sentence(rng) for _ in range(rng.randint(1, 6))) for _ in range(rng.randint(1, 3))]
    return "\n\n".join(parts)


def query(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return sentence(rng)
    if kind == 1:
        return f"Who {rng.choice(VERBS)} the {rng.choice(NOUNS)}?"
    return " ".join(rng.choice(NOUNS) for _ in range(rng.randint(1, 4)))


class Writer:
    """Draws steps. visible_docs: (name, owner) pairs that may flow to uma; secret_docs: the others."""

    def __init__(self, rng):
        self.rng, self.count = rng, 0
        self.visible, self.secret = [], []

    def new_doc(self, owner, secret, prefix):
        self.count += 1
        name = f"{prefix}{self.count}"
        (self.secret if secret else self.visible).append((name, owner))
        return name

    def put(self, actor, owner, share, secret, prefix):
        # A replacement names an older path of the same owner and kind.
        pool = [n for n, o in (self.secret if secret else self.visible) if o == owner]
        path = self.rng.choice(pool) if pool and self.rng.random() < 0.1 else None
        name = self.new_doc(owner, secret, prefix)
        return ("put", actor, name, path or name, owner, tuple(share), text(self.rng),
                path is not None)

    # ---- what uma does and receives ----
    def observation(self, others_docs):
        r = self.rng
        kind = r.choices(("search", "ask", "get", "list", "stats", "whoami", "put", "erase", "share",
                          "erasures", "odd", "score"),
                         (30, 16, 10, 6, 4, 2, 12, 6, 4, 2, 4, 4))[0]
        if kind == "search":
            return ("search", OBSERVER, query(r), r.choice((1, 3, 10, 100)), r.randrange(3),
                    r.choice(("", "", "", "group:team", "group:club", "group:crew", "group:vault")))
        if kind in ("ask", "score"):
            return ("ask", OBSERVER, query(r), r.choice((1, 3, 5)), r.choice((1, 2)), r.randrange(9),
                    r.choice((0, 0, 1)), r.choice(("", "", "group:team")), r.randrange(3))
        if kind == "get":
            pool = [n for n, _ in self.visible] + others_docs
            return ("get", OBSERVER, r.choice(pool)) if pool else ("list", OBSERVER)
        if kind == "put":
            owner = r.choice((OBSERVER, OBSERVER, "group:team"))
            share = r.sample(("user:bob", "group:crew", "group:vault"), r.randrange(2))
            return self.put(OBSERVER, owner, share, False, "u")
        if kind in ("erase", "share"):
            pool = [n for n, o in self.visible if r.random() < 0.8 or o == OBSERVER] + others_docs[:1]
            if not pool:
                return ("list", OBSERVER)
            name = r.choice(pool)
            if kind == "erase":
                return ("erase", OBSERVER, name)
            return (r.choice(("share", "unshare")), OBSERVER, name, r.choice(("user:bob", "group:crew")))
        if kind == "odd":
            return ("get", OBSERVER, r.choice(("?absent", "?short", "?words")))
        return (kind, OBSERVER)

    # ---- what others do that may show ----
    def visible_act(self):
        r = self.rng
        actor = r.choice(OTHERS)
        kind = r.choices(("put", "erase", "share", "unshare", "crew"), (8, 3, 3, 2, 1))[0]
        if kind == "put" or not self.visible:
            owner = r.choice((actor, "group:crew")) if actor != "cay" else actor
            share = ["user:" + OBSERVER] if r.random() < 0.5 else ["group:" + r.choice(UMAS)]
            return self.put(actor, owner, share, False, "v")
        if kind == "crew":
            return (r.choice(("join", "leave")), "admin", "crew", OBSERVER)
        name, owner = r.choice(self.visible)
        actor = owner if owner in USERS else "bob"
        if actor == OBSERVER:
            actor = "bob"                    # a refusal, the same in both
        if kind == "erase":
            return ("erase", actor, name)
        return (kind, actor, name, r.choice(("user:" + OBSERVER, "group:club", "user:cay")))

    # ---- what must not show ----
    def secret_act(self, prefix):
        r = self.rng
        actor = r.choice(OTHERS + SPARE)
        kind = r.choices(("put", "search", "ask", "get", "list", "erase", "share", "unshare", "member",
                          "quota", "token", "user", "gone", "stats"),
                         (30, 10, 8, 4, 2, 12, 6, 3, 3, 2, 2, 2, 2, 2))[0]
        if kind == "put":
            mine = [g for g in HIDDEN_GROUPS if actor in GROUPS[g]]
            owner = "group:" + r.choice(mine) if mine and r.random() < 0.3 else actor
            share = r.sample(["user:" + u for u in OTHERS + SPARE] + ["group:" + g for g in HIDDEN_GROUPS],
                             r.randrange(3))
            return self.put(actor, owner, share, True, prefix)
        if kind == "search":
            return ("search", actor, query(r), 10, r.randrange(3), "")
        if kind == "ask":
            return ("ask", actor, query(r), 5, 2, 0, 0, "", r.randrange(3))
        if kind == "member":
            return (r.choice(("join", "leave")), "admin", r.choice(HIDDEN_GROUPS), r.choice(SPARE))
        if kind == "quota":
            return ("quota", "admin", r.choice(OTHERS + SPARE), r.randint(1000, 5000))
        if kind == "token":
            return ("token", "admin", r.choice(OTHERS + SPARE))
        if kind == "user":
            return ("user", "admin", f"new{prefix}{r.randrange(9)}")
        if kind == "gone":
            return ("gone", "admin", r.choice(SPARE))
        if kind in ("list", "stats") or not self.secret:
            return ("stats" if kind == "stats" else "list", actor)
        name, owner = r.choice(self.secret)
        actor = owner if owner in USERS else actor
        if kind in ("share", "unshare"):
            return (kind, actor, name, r.choice(["user:" + u for u in OTHERS + SPARE] + ["group:vault"]))
        return (kind, actor, name)


def pair(seed, length=24):
    """(kind, history a, history b): lists of (visible, step). Deterministic in the seed."""
    rng = random.Random(seed)
    kind = KINDS[rng.random() < 0.25]
    skeleton, first, second = Writer(rng), Writer(rng), Writer(rng)
    visible = []
    # Secret documents of both histories exist by name; uma may guess at their ids.
    secrets_a = [first.secret_act("a") for _ in range(rng.randint(4, length))]
    guesses = [n for n, _ in first.secret][:4]
    for _ in range(length):
        step = skeleton.visible_act() if rng.random() < 0.35 else skeleton.observation(guesses)
        visible.append(step)
    visible += [("search", OBSERVER, query(rng), 100, 0, ""), ("list", OBSERVER),
                ("ask", OBSERVER, query(rng), 5, 2, 0, 0, "", 0), ("stats", OBSERVER)]
    second.secret, second.count = list(first.secret), first.count + 1000
    secrets_b = [s for s in secrets_a if rng.random() < 0.5]
    secrets_b += [second.secret_act("b") for _ in range(rng.randint(0, length))]
    if rng.random() < 0.15:
        secrets_b = []                       # as if nobody else had ever been there
    if kind == "foreign":
        return kind, *(2 * (weave(rng, visible, secrets_a),))
    return kind, weave(rng, visible, secrets_a), weave(rng, visible, secrets_b)


def weave(rng, visible, secrets):
    """Keeps each list's order, mixes the two."""
    places = sorted(rng.randrange(len(visible) + 1) for _ in secrets)
    out, n = [], 0
    for i, step in enumerate(visible):
        while n < len(places) and places[n] <= i:
            out.append((False, secrets[n]))
            n += 1
        out.append((True, step))
    return out + [(False, s) for s in secrets[n:]]
