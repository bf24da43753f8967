#include "mutant.h"

#ifdef LETHE_MUTANTS
#include <stdlib.h>
#include <string.h>

bool mutant_is(const char *name)
{
    const char *chosen = getenv("LETHE_MUTANT");
    return chosen != NULL && strcmp(chosen, name) == 0;
}
#else
typedef int mutant_unused;     /* ISO C wants a declaration in every file */
#endif
