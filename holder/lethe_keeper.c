/* lethe-keeper: the process that holds the root key; started by lethed and `lethe init`, never by
 * hand. It opens its holder, gives up everything else, and answers on descriptor 3 until that closes.
 *
 *   lethe-keeper file   enforce|off create|open ROOT
 *   lethe-keeper pkcs11 enforce|off create|open MODULE TOKEN PIN_FILE STATE_FOLDER */
#include "keeper.h"

#include "sandbox.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { PEER = 3 };

static result holder_open(int argc, char **argv, root_holder **out)
{
    bool create = strcmp(argv[3], "create") == 0;
    if (strcmp(argv[1], "file") == 0 && argc == 5) return root_file_open(out, argv[4], create);
    if (strcmp(argv[1], "pkcs11") == 0 && argc == 8) {
        const root_pkcs11_options options = {.module = argv[4], .token = argv[5],
                                             .pin_file = argv[6]};
        return root_pkcs11_open(out, &options);
    }
    return fail(E_INVALID, "the keeper was started in a way it does not know");
}

/* The file holder's folder; or what a module needs, which is its own affair: it reads the system's
 * files, and writes where it was told to. */
static result close_in(char **argv)
{
    sandbox_options options = {.profile = SANDBOX_KEEPER, .port = -1};
    if (strcmp(argv[1], "file") == 0) {
        const sandbox_path paths[] = {{argv[4], SANDBOX_READ | SANDBOX_WRITE}};
        options.paths = paths;
        options.path_count = 1;
        return sandbox_enter(&options);
    }
    const sandbox_path paths[] = {{"/etc", SANDBOX_READ}, {"/usr", SANDBOX_READ},
                                  {"/dev/urandom", SANDBOX_READ}, {"/dev/random", SANDBOX_READ},
                                  {argv[7], SANDBOX_READ | SANDBOX_WRITE}};
    options.profile = SANDBOX_KEEPER_MODULE;
    options.paths = paths;
    options.path_count = sizeof paths / sizeof *paths - (argv[7][0] == 0);
    return sandbox_enter(&options);
}

int main(int argc, char **argv)
{
    pid_t parent = getppid();
    process_harden();
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) return 0;              /* it ended in between */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);                        /* a terminal's ^C goes to the server: it ends us */
    signal(SIGTERM, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (argc < 5) {
        fprintf(stderr, "lethe-keeper: started by lethed, not by hand\n");
        return 2;
    }
    memory_lock_all();
    root_holder *holder = NULL;
    result r = holder_open(argc, argv, &holder);
    if (is_ok(r) && strcmp(argv[2], "enforce") == 0) r = close_in(argv);
    r = keeper_serve(PEER, holder, r);
    if (r.code == E_DATA_LOSS)
        log_event(LOG_ERROR, "keeper_refused_peer", LOG_TEXT("what", "malformed message"));
    root_holder_close(&holder);
    return is_ok(r) ? 0 : 1;
}
