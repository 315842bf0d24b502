/* mlopt.h -- compile, load and run models: the public C API. */
#ifndef MLOPT_H
#define MLOPT_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Functions of the API; the libraries hide everything else. */
#if defined(__GNUC__)
#define ML_API __attribute__((visibility("default")))
#else
#define ML_API
#endif

/* What every fallible function returns; ML_OK is 0.  Texts: ml_status_text(). */
typedef enum ml_status {
#define ML_STATUS(number, name, tag, meaning) name = number,
#include "mlopt/status.def"
} ml_status;

/* What a status means for the caller, and its short tag ("shape"); never NULL. */
const char *ml_status_text(ml_status);
const char *ml_status_tag(ml_status);

typedef enum ml_severity { ML_ERROR, ML_WARNING, ML_REMARK } ml_severity;

/* Element types of tensors; the numbers are ABI. */
typedef enum ml_dtype {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype) ML_##name = number,
#include "mlopt/types.def"
} ml_dtype;

typedef struct ml_context ml_context;

#ifdef __cplusplus
}
#endif
#endif
