/* confine: the server gives up what it does not need, before it opens anything: files outside of its folders
 * (the root key's among them), other programs, connections, and all system calls but those listed.
 *
 * Landlock holds for the calling thread alone, and libraries have started threads before main: so the program
 * starts again behind it, with its keeper's socket. */
#ifndef LETHE_CONFINE_H
#define LETHE_CONFINE_H

#include "config.h"
#include "holder.h"

/* First in main: starts the keeper and this program again, confined, and does not return then; the second time,
 * and with `sandbox = off`, gives the keeper. config_file may be NULL: where the settings are read again. */
MUST_USE result confine_start(const config *settings, const char *config_file, char **argv,
                              root_keeper_process *keeper);

#endif
