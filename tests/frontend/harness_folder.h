/* harness_folder.h -- a temporary folder of files for one test. */
#ifndef HARNESS_FOLDER_H
#define HARNESS_FOLDER_H
#include <stddef.h>

/* The folder, without a slash at the end; made by open_folder, removed with all in it. */
extern char folder[];
void open_folder(void);
void remove_folder(void);

/* The path of a name in the folder, valid until the fourth next call. */
const char *in_folder(const char *name);
void write_file(const char *name, const void *bytes, size_t n);
#endif
