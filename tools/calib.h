/* calib.h -- calibration data of the command line: .npz files, ONNX test sets and folders of them.
 */
#ifndef CL_CALIB_H
#define CL_CALIB_H
#include "data/npz.h"
#include "mlopt/compile.h"

/* One file or test set is open at a time; the arrays of a file are loaded as they are asked for. */
typedef struct cl_calib {
	char **file;
	int files;
	int set;     /* the file that is open, -1 for none */
	md_npz *npz; /* NULL when it is a test set */
	md_arrays arrays;
	md_arrays labels; /* of a file of their own */
} cl_calib;

/* Is it one of them, by its name?  Else it is what an earlier compilation has kept. */
bool cl_is_samples(const char *path);
/* Begin once, add what was given in its order, end with cl_calib_close, also after a failure. */
void cl_calib_begin(cl_calib *);
int cl_calib_add(cl_calib *, const char *path, char *why, size_t why_size);
void cl_calib_close(cl_calib *);
/* ml_calibration.array of a cl_calib: an array is found by the input's name, or as in0, in1, ...,
 * in a test set by its place; labels (input -1) by their name, or in the file FILE.npz: named
 * `labels`, or its only array. */
int cl_calib_array(void *calib, int set, int input, const char *name, ml_view *, ml_message *why);
/* The compiler's name for a data file's element type. */
ml_dtype cl_dtype(md_dtype);
#endif
