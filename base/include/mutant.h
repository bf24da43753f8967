/* Mutants: deliberately broken variants that the tests must catch. In a normal build MUTANT(x) is
 * the constant 0 and leaves no code behind; built with -DLETHE_MUTANTS=ON the environment variable
 * LETHE_MUTANT picks one by name. Never ship such a build: lethed prints a warning when it is one. */
#ifndef LETHE_MUTANT_H
#define LETHE_MUTANT_H

#ifdef LETHE_MUTANTS
#include <stdbool.h>
bool mutant_is(const char *name);
#define MUTANT(name) (mutant_is(#name))
#else
#define MUTANT(name) (0)
#endif

#endif
