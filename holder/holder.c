/* What all holders share. */
#include "holder.h"

void root_holder_close(root_holder **holder)
{
    if (*holder == NULL) return;
    (*holder)->ops->close(*holder);
    *holder = NULL;
}

const char *root_holder_assurance(const root_holder *holder) { return holder->assurance; }
const char *root_holder_note(const root_holder *holder) { return holder->note; }
