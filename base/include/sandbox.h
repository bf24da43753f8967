/* sandbox: what a process gives up for good. Files and TCP by Landlock (kernel 5.13; TCP from 6.7),
 * system calls by seccomp. Both are inherited over fork and exec, and never come back.
 *
 * A kernel without Landlock is told in the log ("sandbox_no_landlock") and only seccomp is applied.
 * Built for a sanitizer, the calls that its runtime needs are allowed as well. */
#ifndef LETHE_SANDBOX_H
#define LETHE_SANDBOX_H

#include "base.h"

/* Rights beneath a path. READ: files and lists of names. WRITE: also making, replacing, removing.
 * SOCKET: making and removing sockets. EXECUTE: running a file, or any beneath. */
enum { SANDBOX_READ = 1, SANDBOX_WRITE = 2, SANDBOX_EXECUTE = 4, SANDBOX_SOCKET = 8 };
typedef struct { const char *path; unsigned rights; } sandbox_path;

/* SERVER: serves TCP or a unix socket, starts threads and text extractors; connects to nothing.
 * KEEPER: files and its one socket; no new sockets, threads or programs. KEEPER_MODULE: and local
 * (unix) sockets and threads, for a PKCS#11 module. EXTRACTOR: reads files and its pipe; starts itself. */
typedef enum { SANDBOX_SERVER, SANDBOX_KEEPER, SANDBOX_KEEPER_MODULE, SANDBOX_EXTRACTOR } sandbox_profile;

typedef struct {
    sandbox_profile profile;
    const sandbox_path *paths;              /* what does not exist is left out */
    size_t path_count;
    int port;                               /* the TCP port that may be bound; -1: none */
} sandbox_options;

int sandbox_landlock_abi(void);             /* 0: this kernel has none */
/* Landlock: this thread and what it starts from now on, programs included: call it before threads
 * start, or start the program again behind it. Without Landlock: OK, and a warning. */
MUST_USE result sandbox_files(const sandbox_options *options);
/* seccomp: all threads of this process. A call outside the list fails with EPERM. */
MUST_USE result sandbox_calls(sandbox_profile profile);
/* Both. For a process with one thread. */
MUST_USE result sandbox_enter(const sandbox_options *options);

/* For a child between vfork and exec: made by the parent, entered with system calls alone. */
typedef struct { int ruleset; void *filter; unsigned short filter_length; } sandbox_child;
MUST_USE result sandbox_child_prepare(sandbox_child *out, const sandbox_options *options);
bool sandbox_child_enter(const sandbox_child *child);
void sandbox_child_close(sandbox_child *child);

#endif
