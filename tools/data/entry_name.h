/* entry_name.h -- names of arrays as names of archive entries, and back. */
#ifndef MD_ENTRY_NAME_H
#define MD_ENTRY_NAME_H
#include <stddef.h>

/* A new string: `name` with every byte that is unsafe in an archive as %XX, plus `suffix`.
 * Different names give different entries.  NULL without memory. */
char *md_entry_from_name(const char *name, const char *suffix);

/* A new string: the name of which md_entry_from_name would have made the first `n` bytes of
 * `entry`; these bytes themselves if there is none.  NULL without memory. */
char *md_name_from_entry(const char *entry, size_t n);
#endif
