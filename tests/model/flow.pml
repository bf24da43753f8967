/* Non-interference by self-composition: two copies of a small server side by side. They get the same requests of the
 * observer (user 0) and the same deeds with documents that may flow to it; what users 1 and 2 do among themselves
 * happens in the one copy, in the other, in both or in neither. Whatever the observer is told must be equal.
 *
 * Documents 0 and 1 may come to be shared with the observer (only by deeds that both copies see); 2 and 3 never.
 * A search tells which documents are found and their score: how many documents contain the word, of those that count.
 * Ids, quotas and erasures are the server's other ways of telling.
 *
 * Broken variants, each of which must be found: FILTER_AFTER_SEARCH (the best two of all, then what may be seen),
 * SHARED_STATISTICS, SHARED_QUOTA, DENIED_TOLD, GLOBAL_IDS, GLOBAL_EPOCH. */
#define QUOTA 2
#define STEPS 10

typedef copy {
    bool there[4];              /* the document exists */
    bool seen[4];               /* and its label flows to the observer */
    byte id[4];                 /* the name the observer is told */
    byte next_id, used, others_used, epoch, own_epoch;
};
copy c[2];
byte answer[2];

/* Own documents' ids are hashes of owner and nonce: here, the document's number. */
inline put(k, d) {
    if
    :: !c[k].there[d] ->
        c[k].there[d] = true;
#ifdef GLOBAL_IDS
        c[k].next_id++; c[k].id[d] = c[k].next_id
#else
        c[k].id[d] = d + 1
#endif
    :: else -> skip
    fi
}

inline erase(k, d) {
    if
    :: c[k].there[d] -> c[k].there[d] = false; c[k].seen[d] = false; c[k].id[d] = 0
    :: else -> skip
    fi;
#ifdef GLOBAL_EPOCH
    c[k].epoch++
#endif
}

#define FOUND(k, d) (c[k].there[d] && c[k].seen[d])
#define COUNT_SEEN(k) (FOUND(k, 0) + FOUND(k, 1) + FOUND(k, 2) + FOUND(k, 3))
#define COUNT_ALL(k) (c[k].there[0] + c[k].there[1] + c[k].there[2] + c[k].there[3])
/* The best two of all: 3 before 2 before 1 before 0. */
#define BETTER(k, d) ((d < 3 && c[k].there[3]) + (d < 2 && c[k].there[2]) + (d < 1 && c[k].there[1]))
#define TOP(k, d) (FOUND(k, d) && BETTER(k, d) < 2)

inline search(k) {
#ifdef FILTER_AFTER_SEARCH
    answer[k] = TOP(k, 0) + 2 * TOP(k, 1) + 4 * TOP(k, 2) + 8 * TOP(k, 3);
#else
    answer[k] = FOUND(k, 0) + 2 * FOUND(k, 1) + 4 * FOUND(k, 2) + 8 * FOUND(k, 3);
#endif
#ifdef SHARED_STATISTICS
    answer[k] = answer[k] + 16 * COUNT_ALL(k)
#else
    answer[k] = answer[k] + 16 * COUNT_SEEN(k)
#endif
}

inline get(k, d) {
    if
    :: FOUND(k, d) -> answer[k] = 100 + c[k].id[d]
#ifdef DENIED_TOLD
    :: !FOUND(k, d) && c[k].there[d] -> answer[k] = 7
    :: !FOUND(k, d) && !c[k].there[d] -> answer[k] = 5
#else
    :: else -> answer[k] = 5
#endif
    fi
}

inline charge(k) {
#ifdef SHARED_QUOTA
    answer[k] = ((c[k].used + c[k].others_used) >= QUOTA -> 8 : 0);
#else
    answer[k] = (c[k].used >= QUOTA -> 8 : 0);
#endif
    if :: answer[k] == 0 -> c[k].used++ :: else -> skip fi
}

inline told() { assert(answer[0] == answer[1]) }

init {
    byte n, d, k, deed;
    do
    :: n < STEPS ->
        atomic {
            n++; d = 0; k = 0; answer[0] = 0; answer[1] = 0;
            select(deed : 0 .. 7);
            if
            /* the observer's own, and what may show: the same in both */
            :: deed == 0 -> put(0, 0); put(1, 0); c[0].seen[0] = true; c[1].seen[0] = true
            :: deed == 1 -> put(0, 1); put(1, 1)
            :: deed == 2 -> c[0].seen[1] = c[0].there[1]; c[1].seen[1] = c[1].there[1]      /* shared with it */
            :: deed == 3 -> c[0].seen[1] = false; c[1].seen[1] = false                      /* and no longer */
            :: deed == 4 -> charge(0); charge(1); told();
                            if :: answer[0] == 0 -> search(0); search(1); told() :: else fi
            :: deed == 5 -> select(d : 0 .. 3); get(0, d); get(1, d); told()
            :: deed == 6 -> erase(0, 0); erase(1, 0); c[0].own_epoch++; c[1].own_epoch++;
#ifdef GLOBAL_EPOCH
                            answer[0] = c[0].epoch; answer[1] = c[1].epoch;
#else
                            answer[0] = c[0].own_epoch; answer[1] = c[1].own_epoch;
#endif
                            told()
            /* what the others do among themselves: each copy for itself */
            :: deed == 7 -> select(k : 0 .. 1); select(d : 2 .. 5);
                            if
                            :: d < 4 && !c[k].there[d] -> put(k, d)
                            :: d < 4 && c[k].there[d] -> erase(k, d)
                            :: d == 4 && c[k].others_used < QUOTA -> c[k].others_used++
                            :: else -> skip
                            fi
            fi
        }
    :: else -> break
    od
}
