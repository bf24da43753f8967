"""lethe audit and the scores it measures memory by."""
import json
import os
import signal
import subprocess
import time

from e2e_grounded import marking_model
from house import check, expect, expect_equal, refusal

SEED = "5"


def audit(town, name, *more):
    """(exit code, the signed report), as the user of that name."""
    done = town.house.lethe(town.token[name], "audit", "--seed", SEED, *more)
    expect(done.json is not None and "verdict" in done.json, f"no report: {done.err[-300:]}")
    return done.code, done.json


def cleaned(client, kept):
    expect_equal({d.id for d in client.list()}, kept, "documents after the audit")


@check("audit.clean", erase_keeps_index="the audit's verdict")
def clean(scene):
    """A sound server is found clean; the report verifies offline, and a changed one does not."""
    town = scene.town()
    kept = {town.ada.store("own.txt", "The barge is moored at the north quay. Its crew is four.")}
    path = scene.path("report.json")
    code, report = audit(town, "ada", "--subjects", "1", "--report", path, "--data", town.house.data,
                         "--log", town.house.log)
    expect_equal((code, report["verdict"]), (0, "clean"), "the audit's verdict")
    probes = {k: v for k, v in report.items() if k.startswith("probe_")}
    expect_equal(len(probes), 11, "classes of probes")
    for name, figures in probes.items():
        expect("leaks_before=0 leaks_planted=4 " in figures, f"{name} sees what is planted: {figures}")
        expect("leaks_after=0 equal=8 of 8" in figures, f"{name} after erasure: {figures}")
    for name in ("attack_dense", "attack_lexical"):
        expect("advantage_planted=1.000" in report[name], f"{name} tells members: {report[name]}")
        expect(report[name].endswith("advantage_after=0.000 max_difference_after=0"), f"{name}: {report[name]}")
    expect(report["residue"].endswith(" found=0"), "residue")
    cleaned(town.ada, kept)
    verified = town.house.lethe(None, "verify", path, "--key", town.house.key)
    expect_equal((verified.code, verified.json["trusted"]), (0, True), "the report, verified")
    with open(path) as f:
        changed = f.read().replace("leaks_after=0", "leaks_after=1", 1)
    verified = town.house.lethe(None, "verify", scene.write("changed.json", changed), "--key", town.house.key)
    expect_equal((verified.code, verified.json["valid"]), (1, False), "a changed report")
    log = town.house.lethe(town.house.admin_token, "log", "ls").json["entries"]
    expect_equal(log[-1]["event"], "audit", "the log's last entry")
    # What an auditor must find in a file, it finds: the same seed, the same persons.
    scene.write("data/stores/left-behind", report["first_subject"].encode("utf-16-le"))
    code, report = audit(town, "ada", "--subjects", "1", "--data", town.house.data)
    expect_equal((code, report["verdict"]), (1, "residue"), "a name left behind in a file")
    os.unlink(scene.path("data/stores/left-behind"))


@check("audit.interrupted")
def interrupted(scene):
    """SIGINT in the middle: what was planted is erased."""
    town = scene.town()
    env = {**os.environ, "LETHE_TOKEN": town.token["ada"], "LETHE_SERVER": town.house.address,
           "LETHE_CA": town.house.ca}
    process = subprocess.Popen([town.house.world.program("lethe"), "audit", "--subjects", "20", "--json"], env=env,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not town.ada.list() and time.monotonic() < until:
        time.sleep(0.05)
    expect(town.ada.list(), "something planted")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    expect_equal(process.returncode, 1, "the exit code")
    expect(b"interrupted" in err and json.loads(out)["error"]["code"] == "CANCELLED", f"what it says: {err[-200:]}")
    cleaned(town.ada, set())


@check("audit.generator")
def generator(scene):
    """With a generator: log-probabilities, the same to the last bit after erasure, and the attacks on them."""
    town = scene.town("--model", scene.model(d_model=64, layers=2), "--quota-tokens-per-minute", "0")
    text = "The barge is moored at the north quay. Its crew is four."
    kept = {town.ada.store("own.txt", text)}
    request = town.ada.pb.ScoreRequest(question="Where is the barge moored?", continuation=" At the north quay.")
    scores = town.ada.answers.Score(request)
    expect(scores.tokens > 3 and len(scores.log_probs) == len(scores.means) == len(scores.deviations) == scores.tokens,
           "a score for each token")
    expect(all(p <= 0 for p in scores.log_probs) and scores.label == "{user:ada}",
           f"log-probabilities and their label: {scores.label}")
    expect(scores == town.ada.answers.Score(request), "the same twice")
    request.closed_book = True
    closed = town.ada.answers.Score(request)
    expect(closed.input_tokens < scores.input_tokens and closed.log_probs != scores.log_probs, "closed book")
    expect(closed == town.bob.answers.Score(request), "closed book, another user")
    for bad in ({"continuation": ""}, {"question": ""}, {"repeats": 5}, {"passages": 1000},
                {"continuation": "a b " * 3000}):
        wrong = town.ada.pb.ScoreRequest(question="q", continuation="c")
        wrong.MergeFrom(town.ada.pb.ScoreRequest(**{k: v for k, v in bad.items() if v}))
        for key in [k for k, v in bad.items() if not v]:
            wrong.ClearField(key)
        expect_equal(refusal(lambda: town.ada.answers.Score(wrong)), "INVALID_ARGUMENT", f"{list(bad)} refused")
    code, report = audit(town, "ada", "--subjects", "1")
    expect_equal((code, report["verdict"], report["answers"]), (0, "clean", "generative"), "the audit's verdict")
    for name in ("loss", "zlib", "min-k", "min-k++"):
        figures = report["attack_" + name]
        expect(figures.endswith("advantage_after=0.000 max_difference_after=0"), f"{name}: {figures}")
        expect("auc_planted=0.500" not in figures, f"{name} moves while planted: {figures}")
    cleaned(town.ada, kept)


@check("audit.marks")
def marks(scene):
    """A model that only marks: scores are refused, and the audit goes on without."""
    town = scene.town("--model", marking_model(scene, sentences_tokens=120), "--quota-tokens-per-minute", "0")
    request = town.ada.pb.ScoreRequest(question="q", continuation="c")
    expect_equal(refusal(lambda: town.ada.answers.Score(request)), "FAILED_PRECONDITION", "Score")
    code, report = audit(town, "ada", "--subjects", "1")
    expect_equal((code, report["verdict"]), (0, "clean"), "the audit's verdict")


@check("audit.no_generator")
def no_generator(scene):
    """Scores without a generator: a precondition, said in words."""
    town = scene.town()
    request = town.ada.pb.ScoreRequest(question="q", continuation="c")
    expect_equal(refusal(lambda: town.ada.answers.Score(request)), "FAILED_PRECONDITION", "Score")
