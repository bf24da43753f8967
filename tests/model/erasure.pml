/* The erasure protocol (server/erasure.c, retrieval/keytree_erase.c), crashes at every point, and an adversary who
 * copied the data folder at any moment and gets the newest root key.
 *
 * One document D is erased; another, S, survives. Content on a disk is modelled by what opens it: the head of epoch e
 * opens with root key e, and leads to D's key when has_d[e]. An image is the set of heads that ever were on the disk
 * (nothing that was ever written is forgotten): copied[e]. The adversary reads D iff some copied head of an epoch
 * whose root key is alive leads to D. A restore puts old stores back; the key tree stays (backup.c has none).
 *
 * Broken variants, each of which must be found: ROOT_FIRST (old root destroyed before the new tree is there),
 * RECEIPT_FIRST (COMPLETE before the commit point), NO_FENCE, KEEP_ROOT, BACKUP_HAS_ROOT (a restore brings the old root
 * key back), FORGET_INTENT, NO_VERIFY (a new head that does not open goes unnoticed). */
#define EPOCHS 4

bool root[EPOCHS];          /* root key e is alive in the holder */
bool head[EPOCHS];          /* head e is on the disk, durable */
bool good[EPOCHS];          /* and opens (a write may have gone wrong) */
bool has_d[EPOCHS];         /* tree e leads to D's key */
bool copied[EPOCHS];        /* somebody has an image with head e */
byte epoch = 1;             /* the epoch that the server runs on */
bool intent, begun, complete, fenced, served_fenced, stored_d = true, up = true, lost;
bool resumed;               /* started again after the intent was on the disk */
byte crashes, restores;

inline snapshot() { d_step { byte i; i = 1; do :: i < EPOCHS -> if :: head[i] -> copied[i] = true :: else fi; i++ :: else -> break od; i = 0 } }

#define READS_D(e) (copied[e] && good[e] && has_d[e] && root[e])
#define ADVERSARY (READS_D(1) || READS_D(2) || READS_D(3))

/* Which tree a start uses: while both roots live, the older. */
inline open_tree() {
    d_step {
        if
        :: root[1] && head[1] && good[1] -> epoch = 1
        :: !(root[1] && head[1] && good[1]) && root[2] && head[2] && good[2] -> epoch = 2
        :: !(root[1] && head[1] && good[1]) && !(root[2] && head[2] && good[2]) && root[3] && head[3] && good[3] -> epoch = 3
        :: else -> lost = true
        fi
    }
}

/* A crash may come between any two steps. */
#define STEP(x) if :: up -> x :: !up -> goto down fi

proctype server()
{
    byte next;
again:
    if :: complete -> goto done :: else fi;
    if :: intent -> skip
       :: !intent -> STEP(d_step { intent = true; begun = true })                /* 1 */
    fi;
#ifndef NO_FENCE
    STEP(fenced = true);                                                        /* 2, 3 */
#endif
    /* 4: the next root key; what an attempt before left behind is discarded first */
    next = epoch + 1;
    if :: next >= EPOCHS -> goto done :: else fi;
    STEP(d_step { root[next] = true; head[next] = false });
#ifdef ROOT_FIRST
    STEP(root[epoch] = false);
#endif
#ifdef RECEIPT_FIRST
    STEP(complete = true);
#endif
    /* 5: the new tree; the write may go wrong, which reading it back tells */
    if
    :: STEP(d_step { has_d[next] = false; head[next] = true; good[next] = true })
    :: STEP(d_step { has_d[next] = false; head[next] = true; good[next] = false })
    fi;
#ifndef NO_VERIFY
    if :: !good[next] -> STEP(d_step { head[next] = false; root[next] = false }); goto again
       :: else
    fi;
#endif
#if !defined(KEEP_ROOT) && !defined(ROOT_FIRST)
    STEP(root[epoch] = false);                                                  /* 6: the commit point */
#endif
    STEP(d_step { epoch = next });
    STEP(stored_d = false);                                                     /* 7 */
#ifndef RECEIPT_FIRST
    STEP(complete = true);                                                      /* 8: the receipt, then the intent goes */
#endif
    STEP(intent = false);
    goto done;
down:
    /* Start again: memory is gone, the disk is what it is. */
    atomic {
        fenced = false;
        open_tree();
#ifdef FORGET_INTENT
        intent = false;
#endif
#ifndef NO_FENCE
        if :: intent -> fenced = true :: else fi;     /* before anything is served */
#endif
        up = true;
        if :: begun -> resumed = true :: else fi
    };
    if :: intent -> goto again
       :: !intent && !complete -> goto again           /* the client asks once more, or never did */
       :: else
    fi;
done:
    assert(complete || lost || epoch == EPOCHS - 1)             /* whoever began is carried to the end */
}

proctype crash()
{
    do
    :: crashes < 2 -> atomic { up -> up = false; crashes++ }
    :: break
    od
}

/* A reader is answered from the tree of the moment, unless the fence stands. */
proctype reader()
{
    byte n;
    do
    :: n < 3 ->
        atomic {
            if
            :: up && !fenced && has_d[epoch] && root[epoch] && stored_d ->
                if :: resumed || complete -> served_fenced = true
                   :: else
                fi
            :: else
            fi;
            n++
        }
    :: break
    od
}

proctype adversary()
{
    byte n;
    do
    :: n < 3 -> snapshot(); n++
    :: restores < 1 -> atomic {
            restores++;
            stored_d = true;                                    /* old stores come back */
#ifdef BACKUP_HAS_ROOT
            root[1] = true
#endif
        }
    :: break
    od
}

init {
    atomic {
        root[1] = true; head[1] = true; good[1] = true; has_d[1] = true;
        run server(); run crash(); run reader(); run adversary()
    }
}

ltl promises { [] ((complete -> !ADVERSARY) && !served_fenced && !lost) }
