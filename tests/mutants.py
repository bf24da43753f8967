#!/usr/bin/python3
"""Runs the unit test that guards each deliberately broken variant, which must fail under it and pass
without. Prints TAP.

usage: tests/mutants.py BUILD      (a build with LETHE_MUTANTS=ON)
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GUARDS = {
    "flows_always": "ifc", "audience_ignored": "ifc", "gate_open": "ifc",
    "membership_cached": "acl", "quota_shared": "acl", "revoked_token_works": "acl",
    "erase_keeps_root": "keytree_commit", "erase_keeps_path": "keytree_commit",
    "inclusion_unchecked": "merkle", "consistency_unchecked": "merkle", "signature_unchecked": "receipt", "ack_before_commit": "store",
    "enospc_ignored": "kv", "cancel_ignored": "rpc", "reduction_depends_on_batch": "model",
    "second_reading_lost": "marked", "marks_whole_words_off": "marked", "marked_places_drift": "marked",
    "seen_costs_nothing": "marked", "watch_late": "marks", "marks_alike": "marks", "watch_restarts": "scheduler",
    "filter_after_search": "retrieval", "feedback_counts_all": "retrieval", "tenant_unchecked": "retrieval",
    "unshare_ignored": "retrieval", "erase_keeps_index": "retrieval", "erase_keeps_statistics": "lexical",
    "erase_leaves_order": "dense", "parts_stay_divided": "compartment", "block_unwiped": "blocks", "precisions_mixed": "model", "state_cache_shared": "session", "shares_are_common": "scheduler", "turns_forgotten": "scheduler", "scores_unlabelled": "session", "report_not_in_log": "audit",
    "span_mid_word": "constraint", "constraint_off": "session", "span_of_chunk": "session", "spans_unlabelled": "session",
    "not_found_differs": "session", "contradiction_hidden": "grounded", "absence_unchecked": "absence", "tombstones_unkeyed": "tombstones", "tombstones_shared": "tombstones",
    "list_keeps_erased": "centroids", "list_unwiped": "centroids", "probe_switch_counts_all": "probe", "probe_sizes_count_all": "probe",
    "token_key_readable": "holder", "token_keeps_key": "holder",
    "free_unwiped": "free_wipes", "cuda_blocks_depend_on_batch": "cuda", "cuda_workspace_kept": "cuda", "cuda_state_kept": "cuda",
    "cap_fails_open": "ifc_oracle", "integrity_reversed": "ifc_oracle", "join_forgets_integrity": "ifc_oracle",
    "prune_opens": "ifc_oracle", "subsumption_dropped": "ifc_oracle", "declassify_unauthorised": "ifc_oracle",
    "declassify_untrusted": "ifc_oracle", "declassify_unaudited": "ifc_oracle",
}
# Variants that only a script sees: tests/e2e/mutants.py, tests/flow/mutants.py, tests/crash/mutants.py.
ELSEWHERE = {"backup_includes_root", "restore_takes_keytree", "restore_keeps_shares", "restore_keeps_tokens",
             "subject_erases_first_only", "subject_reads_shared", "denied_differs", "denied_told", "mark_hits_only",
             "cancel_ignores_labels", "statistics_shared", "ids_from_counter", "receipt_shows_global_epoch",
             "head_unsynced", "root_destroyed_early", "intent_dropped_early", "store_torn",
             "keeper_key_in_server", "sandbox_off",
             "tls_buffers_kept", "stack_unwiped"}


def passes(build, test, mutant):
    env = dict(os.environ, LETHE_SOURCE=ROOT, LETHE_TEST_SMALL="1")
    env.pop("LETHE_MUTANT", None)
    if mutant:
        env["LETHE_MUTANT"] = mutant
    try:
        done = subprocess.run([os.path.join(build, "tests", "test_" + test)], env=env, cwd=ROOT,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and b"not ok" not in done.stdout


def in_sources():
    found = set()
    for folder in ("base", "holder", "ifc", "acl", "retrieval", "model", "server"):
        for where, _, names in os.walk(os.path.join(ROOT, folder)):
            for name in names:
                if name.endswith((".c", ".h", ".cpp", ".cu")) and name != "mutant.h":
                    with open(os.path.join(where, name), encoding="utf-8") as f:
                        found |= set(re.findall(r"\bMUTANT\((\w+)\)", f.read()))
    return found


def main():
    build, number = sys.argv[1], 0

    def report(good, name):
        nonlocal number
        number += 1
        print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)

    for test in sorted(set(GUARDS.values())):
        report(passes(build, test, None), f"{test} passes without a mutant")
    for mutant, test in GUARDS.items():
        report(not passes(build, test, mutant), f"{test} catches {mutant}")
    unguarded = in_sources() - set(GUARDS) - ELSEWHERE
    report(not unguarded, f"every mutant has a guard {' '.join(sorted(unguarded))}".strip())
    print(f"1..{number}")


if __name__ == "__main__":
    main()
