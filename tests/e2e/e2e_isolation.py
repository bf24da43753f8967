"""Who sees what: private documents, refused ids, audiences, changes that hold at once, tenants."""
import json

from house import Wrong, check, expect, expect_equal, refusal, short

# Words that several people's documents have in common, so that a statistic over somebody else's would
# show in a score; and sentences that are ada's alone.
COMMON = ["the harbour crane was inspected on monday", "the night shift keeps a log of every vessel",
          "the pump in the engine room needs a new gasket", "the pilot boards at the outer buoy",
          "fuel is delivered before the morning tide", "the radio channel is kept free for the pilot"]
PRIVATE = ["the quartz lantern is hidden behind the ninth stair", "my salary rises by eleven percent",
           "the surgeon moved the operation to thursday", "the violet envelope holds the crane's code"]


def text(seed, sentences, paragraphs=3):
    """A document of a few paragraphs, different for each seed."""
    lines = []
    for p in range(paragraphs):
        words = [sentences[(seed * 7 + p * 3 + i * 5) % len(sentences)] for i in range(4)]
        lines.append(". ".join(f"{w} ({seed}-{p}-{i})" for i, w in enumerate(words)) + ".")
    return "\n\n".join(line.capitalize() for line in lines) + "\n"


def queries():
    """As bob might ask, and word for word what only ada wrote."""
    return COMMON + PRIVATE + ["where is the quartz lantern?", "salary", "who boards at the buoy?",
                               "when is the operation?", "crane code", "violet quartz surgeon stair"]


def settle(town):
    """bob's own, the group's, and one of ada's that she shared with bob: so her store is looked into."""
    for n in range(6):
        town.bob.store(f"bob/{n}.txt", text(n, COMMON))
    town.bob.store("oncall/duty.txt", text(20, COMMON), owner="group:oncall")
    return town.ada.store("ada/for-bob.txt", text(30, COMMON), share=["user:bob"])


def hoard(town, count=12):
    """ada's own: common words as well as hers alone. Their ids."""
    documents = [{"path": f"ada/secret-{n}.txt", "content": text(40 + n, PRIVATE + COMMON)}
                 for n in range(count)]
    response = town.ada.put(*documents)
    return [d.id for d in response.documents]


def everything(client):
    """All that one user can observe by asking and looking: whole responses, as bytes."""
    pb, seen = client.pb, []
    for query in queries():
        for mode in (0, 1, 2):
            seen.append(client.seen("Answers/Search", pb.SearchRequest(query=query, k=100, mode=mode)))
        seen.append(client.seen("Answers/Search",
                                pb.SearchRequest(query=query, k=3, audience="group:oncall")))
        seen.append(client.seen("Answers/Ask", pb.AskRequest(question=query, passages=8)))
    seen.append(client.seen("Documents/List", pb.ListRequest()))
    for document in client.list():
        seen.append(client.seen("Documents/Get", pb.GetRequest(id=document.id)))
    seen.append(client.seen("Access/WhoAmI", pb.WhoAmIRequest()))
    seen.append(client.seen("Admin/Stats", pb.StatsRequest()))
    return seen


@check("isolation.passages", flows_always="of ada's")
def passages(scene):
    """bob gets 0 of ada's passages, whatever he asks."""
    town = scene.town()
    settle(town)
    mine = set(hoard(town))
    for query in queries():
        for mode in (0, 1, 2):
            hits = town.bob.search(query, mode=mode)
            expect(hits or query not in COMMON, "bob finds something of his own")
            expect(not any(h.document in mine for h in hits), "a passage of ada's in bob's search")
        found, tokens, final = town.bob.ask(query, passages=32)
        read = {p.document for p in found} | {c.document for c in final.citations}
        expect(not read & mine, "a passage of ada's behind bob's answer")
        words = final.answer + "".join(p.text for p in found)
        expect(not any(w in words.lower() for w in PRIVATE), "words of ada's in bob's answer")
    expect(not mine & {d.id for d in town.bob.list()}, "a document of ada's in bob's list")
    for document in mine:
        expect_equal(refusal(lambda: town.bob.get(document)), "NOT_FOUND", "bob gets one of ada's")
    # The control: to ada they answer.
    expect(mine & {h.document for h in town.ada.search(PRIVATE[0])}, "ada finds her own")


@check("isolation.bytes", filter_after_search="differs", flows_always="differs")
def same_bytes(scene):
    """With and without ada's documents bob receives the same bytes: hits, scores, errors, frames."""
    town = scene.town()
    settle(town)
    before = everything(town.bob)
    again = everything(town.bob)
    expect(before == again, "the same request twice differs")
    hoard(town)
    after = everything(town.bob)
    for one, other in zip(before, after):
        expect(one == other, f"what bob receives differs: {differing(one, other)}")
    expect_equal(len(after), len(before), "bob's observations")
    for seen in before:
        expect_equal(seen.code, "OK", "a request of bob's")


def differing(one, other):
    return "; ".join(f"{field} {short(a, 120)} / {short(b, 120)}"
                     for field, a, b in zip(one._fields, one, other) if a != b)


@check("isolation.refused_ids", denied_differs="differs")
def refused_ids(scene):
    """Denied, absent, erased and malformed ids: the same status, words and metadata."""
    town = scene.town()
    settle(town)
    pb = town.bob.pb
    denied, erased = hoard(town, 2)
    receipt_id = json.loads(town.ada.erase(document=erased).receipt)["id"]
    token_id = town.admin.issue("ada").id
    ids = [denied, erased, "00" * 16, "7f" * 16, "", "x", "no-such-document", denied[:-1], denied + "0",
           denied[:-2] + "zz", "../../etc/passwd", "%s%n", "\u00e4" * 16, "a" * 4000]
    methods = {
        "Documents/Get": lambda i: pb.GetRequest(id=i),
        "Documents/Share": lambda i: pb.ShareRequest(document=i, who="user:bob"),
        "Documents/Unshare": lambda i: pb.ShareRequest(document=i, who="user:bob"),
        "Erasure/Erase": lambda i: pb.EraseRequest(document=i),
        "Erasure/GetReceipt": lambda i: pb.GetReceiptRequest(id=i if i != erased else receipt_id),
        "Access/RevokeToken": lambda i: pb.RevokeTokenRequest(id=i if i != denied else token_id),
    }
    for method, make in methods.items():
        seen = {i: town.bob.seen(method, make(i)) for i in ids}
        expect_equal(seen[denied].code, "NOT_FOUND", method + " of a denied id")
        expect_equal(seen[denied].messages, (), method + " of a denied id: messages")
        for i in ids:
            expect(seen[i] == seen[denied],
                   f"{method} of {short(i, 40)} differs: {differing(seen[denied], seen[i])}")
    # The controls: what ada can do with the same ids.
    expect(town.ada.get(denied), "ada reads her own")
    expect_equal(town.ada.seen("Erasure/GetReceipt", pb.GetReceiptRequest(id=receipt_id)).code, "OK",
                 "ada's own receipt")
    expect_equal(town.ada.seen("Access/RevokeToken", pb.RevokeTokenRequest(id=token_id)).code, "OK",
                 "ada revokes her own token")


@check("isolation.shared_reader", flows_always="ada's private")
def shared_reader(scene):
    """Who may read a shared document may neither share nor erase it, nor sees what lies beside it."""
    town = scene.town()
    shared = settle(town)
    private = hoard(town, 3)
    expect(b"(30-" in town.bob.get(shared), "bob reads what was shared with him")
    for act in (lambda: town.bob.share(shared, "user:cay"), lambda: town.bob.unshare(shared, "user:bob"),
                lambda: town.bob.erase(document=shared)):
        expect_equal(refusal(act), "PERMISSION_DENIED", "bob disposes of ada's document")
    expect_equal(sorted(d.id for d in town.bob.list() if d.owner == "user:ada"), [shared],
                 "ada's private documents in bob's list")
    expect_equal(refusal(lambda: town.cay.get(shared)), "NOT_FOUND", "cay reads what bob may")
    expect_equal(refusal(lambda: town.operator.list()), "PERMISSION_DENIED", "the operator reads")
    expect_equal(refusal(lambda: town.admin.get(private[0])), "NOT_FOUND", "the admin reads ada's")


# ---- audience ------------------------------------------------------------------------------------------------
@check("audience", audience_ignored="not the audience's")
def audience(scene):
    """With an audience only what flows to that group as such is used, whoever asks."""
    town = scene.town()
    town.admin.group("harbourmasters", "group:oncall")         # oncall is nested in it
    mine = town.ada.store("ada/own.txt", text(1, COMMON + PRIVATE))
    duty = town.ada.store("oncall/duty.txt", text(2, COMMON), owner="group:oncall")
    lent = town.ada.store("ada/lent.txt", text(3, COMMON), share=["group:oncall"])
    master = town.ada.store("masters.txt", text(4, COMMON), share=["group:harbourmasters"])
    herb = town.ada.store("garden/herbs.txt", text(5, COMMON), owner="group:garden")
    to_bob = town.ada.store("ada/bob.txt", text(6, COMMON), share=["user:bob"])
    permitted = {"group:oncall": {duty, lent, master}, "group:garden": {herb},
                 "group:harbourmasters": {master}, "": {mine, duty, lent, master, herb, to_bob}}
    for name, documents in permitted.items():
        for query in COMMON + PRIVATE:
            hits = {h.document for h in town.ada.search(query, audience=name)}
            expect(not hits - documents, f"a hit that is not the audience's ({name})")
            found, _, final = town.ada.ask(query, passages=32, audience=name)
            read = {p.document for p in found} | {c.document for c in final.citations}
            expect(not read - documents, f"the answer used what is not the audience's ({name})")
        expect_equal({h.document for h in town.ada.search(COMMON[0], audience=name)}, documents,
                     f"all that flows to {name or 'ada'}")


@check("audience.refused", denied_differs="audience")
def audience_refused(scene):
    """A group that one is not in and one that does not exist are one answer."""
    town = scene.town()
    settle(town)
    pb = town.bob.pb
    for method, make in (("Answers/Search", lambda a: pb.SearchRequest(query="crane", audience=a)),
                         ("Answers/Ask", lambda a: pb.AskRequest(question="crane", audience=a))):
        first = town.bob.seen(method, make("group:garden"))
        expect_equal(first.code, "NOT_FOUND", f"{method}: an audience bob is not in is not refused")
        for other in ("group:nobody", "garden", "user:bob", "bob", "user:ada", "group:", "::", " ", "%s",
                      "a" * 1000, town.admin.whoami().id):
            seen = town.bob.seen(method, make(other))
            expect(seen == first, f"{method}, audience {short(other, 40)}: {differing(first, seen)}")


# ---- changes hold from the next request on ---------------------------------------------------------------------
def reads(client, document, query="harbour crane"):
    """Whether the document reaches the client, by each of the ways there are; all must agree."""
    ways = {
        "Get": refusal(lambda: client.get(document)) is None,
        "List": document in {d.id for d in client.list()},
        "Search": document in {h.document for h in client.search(query)},
        "Ask": document in {p.document for p in client.ask(query, passages=32)[0]},
    }
    if len(set(ways.values())) != 1:
        raise Wrong(f"a change holds for some ways only: {ways}")
    return ways["Get"]


@check("at_once.membership", membership_cached="still reads")
def membership(scene):
    """Leaving a group, nested or not, holds from the next request on, within an open channel."""
    town = scene.town()
    town.admin.group("harbourmasters", "group:oncall")
    duty = town.ada.store("oncall/duty.txt", text(2, COMMON), owner="group:oncall")
    lent = town.ada.store("ada/lent.txt", text(3, COMMON), share=["group:harbourmasters"])
    for turn in range(3):
        expect(reads(town.bob, duty) and reads(town.bob, lent), f"bob reads as a member ({turn})")
        town.admin.leave("oncall", "bob")
        expect(not reads(town.bob, duty), f"bob still reads the group's after leaving ({turn})")
        expect(not reads(town.bob, lent), f"bob still reads by the nested group ({turn})")
        expect_equal(list(town.bob.whoami().groups), [], "bob's groups after leaving")
        expect_equal(refusal(lambda: town.bob.search("crane", audience="group:oncall")), "NOT_FOUND",
                     "an audience that bob has left")
        put = town.bob.put({"path": "x", "content": "x", "owner": "group:oncall"})
        expect_equal([f.code for f in put.failed], [5], "bob puts for a group he has left")
        town.admin.join("oncall", "bob")
    town.admin.leave("harbourmasters", "group:oncall")
    expect(reads(town.bob, duty), "bob is a member of oncall yet")
    expect(not reads(town.bob, lent), "bob still reads what oncall's own membership gave")
    town.bob.leave("oncall", "bob")
    expect(not reads(town.bob, duty), "bob still reads after taking himself out")
    expect_equal(refusal(lambda: town.bob.leave("oncall", "ada")), "PERMISSION_DENIED",
                 "bob takes ada out of a group")


@check("at_once.unshare", unshare_ignored="still reads")
def unshare(scene):
    """Unsharing holds from the next request on."""
    town = scene.town()
    one = town.ada.store("ada/one.txt", text(1, COMMON), share=["user:bob", "group:garden"])
    town.ada.store("ada/other.txt", text(2, COMMON), share=["user:bob"])
    for turn in range(3):
        expect(reads(town.bob, one) and reads(town.cay, one), f"both read what is shared ({turn})")
        town.ada.unshare(one, "user:bob")
        expect(not reads(town.bob, one), f"bob still reads what was unshared ({turn})")
        expect(reads(town.cay, one) and reads(town.ada, one), "the others read on")
        town.ada.share(one, "user:bob")
    town.ada.unshare(one, "group:garden")
    expect(not reads(town.cay, one), "cay still reads what was unshared from her group")
    expect_equal(refusal(lambda: town.ada.share(one, "user:nobody")), "NOT_FOUND", "sharing with nobody")


@check("at_once.token", revoked_token_works="still works")
def token(scene):
    """A revoked token is refused from the next request on, as a wrong one is."""
    town = scene.town()
    second = town.admin.issue("bob")
    client = town.house.client(second.token)
    expect_equal(client.whoami().name, "bob", "the new token's user")
    town.bob.revoke(second.id)
    pb = client.pb
    for method, request in (("Access/WhoAmI", pb.WhoAmIRequest()), ("Documents/List", pb.ListRequest()),
                            ("Answers/Search", pb.SearchRequest(query="crane")),
                            ("Answers/Ask", pb.AskRequest(question="crane"))):
        revoked = client.seen(method, request)
        expect_equal(revoked.code, "UNAUTHENTICATED", f"{method}: a revoked token still works")
        wrong = town.house.client("lethe_" + "A" * 43).seen(method, request)
        expect(wrong == revoked, f"{method}: revoked and unknown differ: {differing(wrong, revoked)}")
    expect_equal(town.bob.whoami().name, "bob", "bob's other token")


# ---- tenants ---------------------------------------------------------------------------------------------------
@check("tenants", tenant_unchecked="of another tenant")
def tenants(scene):
    """A second tenant with the same names sees nothing of the first, and cannot reach into it."""
    town = scene.town()
    settle(town)
    harbour = hoard(town, 3) + [d.id for d in town.bob.list()]
    ids = [town.ada.whoami().id, town.bob.whoami().id]
    made = town.operator.access.CreateTenant(town.ada.pb.CreateTenantRequest(name="island"))
    admin = town.house.client(made.token)
    people = {}
    for name in ("ada", "bob"):
        admin.user(name)
        people[name] = town.house.client(admin.issue(name).token)
    admin.group("oncall", "ada", "bob")
    ada, bob = people["ada"], people["bob"]
    expect_equal((ada.whoami().tenant, list(ada.whoami().groups)), ("island", ["oncall"]), "the island's ada")
    before = everything(town.bob)
    own = ada.store("ada/for-bob.txt", text(30, COMMON), share=["user:bob", "group:oncall"])
    for client in (ada, bob, admin):
        for query in queries():
            code = refusal(lambda: client.search(query))
            expect_equal(code, None, "a search that stumbles over what is of another tenant")
            hits = {h.document for h in client.search(query)}
            expect(not hits - {own}, "a passage of another tenant in a search")
            found, _, _ = client.ask(query, passages=32)
            expect(not {p.document for p in found} - {own}, "a passage of another tenant in an answer")
        expect(not {d.id for d in client.list()} - {own}, "a document of another tenant in a list")
        absent = client.seen("Documents/Get", client.pb.GetRequest(id="00" * 16))
        for document in harbour:
            seen = client.seen("Documents/Get", client.pb.GetRequest(id=document))
            expect(seen == absent, "a document of another tenant: " + differing(absent, seen))
    expect(reads(bob, own), "the island's bob reads what is shared with him")
    for who in [*ids, "user:cay", "harbour/bob", "cay"]:
        expect_equal(refusal(lambda: ada.share(own, who)), "NOT_FOUND", "sharing into another tenant")
    for target in ({"user": "cay"}, {"document": harbour[0]}):
        expect_equal(refusal(lambda: admin.erase(**target)), "NOT_FOUND", "erasing in another tenant")
    expect_equal(refusal(lambda: admin.erase(tenant="harbour")), "PERMISSION_DENIED",
                 "erasing another tenant")
    expect_equal(refusal(lambda: admin.erase(tenant="atlantis")), "PERMISSION_DENIED",
                 "erasing no tenant at all")
    expect_equal(refusal(lambda: admin.join("oncall", ids[0])), "NOT_FOUND", "another tenant's member")
    expect_equal(refusal(lambda: admin.issue("cay")), "NOT_FOUND", "a token for another tenant's user")
    expect(before == everything(town.bob), "the second tenant changes what bob of another tenant receives")


# ---- one's load never refuses another ----------------------------------------------------------------------------
@check("quota", quota_shared="refused by another's load")
def quota(scene):
    """Quotas are static shares: who uses up its own is refused, and nobody else."""
    town = scene.town()
    pb = town.ada.pb
    for name in ("ada", "bob"):
        town.admin.admin.SetQuota(pb.SetQuotaRequest(
            name=name, quota=pb.Quota(requests_per_second=2, documents_max=3)))
    codes = [town.ada.seen("Access/WhoAmI", pb.WhoAmIRequest()).code for _ in range(60)]
    expect_equal(set(codes), {"OK", "RESOURCE_EXHAUSTED"}, "ada over her requests per second")
    expect_equal(town.bob.seen("Access/WhoAmI", pb.WhoAmIRequest()).code, "OK",
                 "bob refused by another's load")
    town.admin.admin.SetQuota(pb.SetQuotaRequest(name="ada", quota=pb.Quota(documents_max=3)))
    for n in range(3):
        town.ada.store(f"ada/{n}", "words")
    over = town.ada.put({"path": "ada/4", "content": "words"})
    expect_equal([f.code for f in over.failed], [8], "a document over ada's limit")
    expect_equal(len(town.ada.list()), 3, "ada's documents")
    expect_equal(refusal(lambda: town.bob.admin.SetQuota(pb.SetQuotaRequest(
        name="bob", quota=pb.Quota()))), "PERMISSION_DENIED", "bob lifts his own limits")
