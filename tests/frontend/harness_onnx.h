/* harness_onnx.h -- ONNX models and tensors written as text, and what importing them must give. */
#ifndef HARNESS_ONNX_H
#define HARNESS_ONNX_H
#include "frontend/import.h"
#include "harness_bytes.h"

/* A model, one line each:
 *
 *   opset 13                    opset com.microsoft 1      (opset 17 when there is no line)
 *   in x f32[b,3]               a value; dims are numbers, names, or ? for neither
 *   const w f32[2] 1 2          an initializer
 *   node Add x w -> y axis=1 alpha=0.5 pads=[0,1] scale=(1.5,2) domain=acme
 *   node If c -> y then_branch={ else_branch={      each subgraph: lines up to one with `}`
 *   out y f32[b,3]              the type may be missing
 *
 * `-` is an omitted input or output.  */
msg onnx_model(const char *text);

/* "f32[2] 1 2": data lies in the test's context. */
ml_tensor onnx_tensor(const char *text);

/* Imports the model, verifies and evaluates it, and compares: `inputs` and `outputs` are lines
 * "name f32[2] 1 2"; inputs with a `!` before the name are frozen.  Then writes it as ONNX, reads
 * that, and evaluates again. */
void expect(const char *model, const char *inputs, const char *outputs);
/* Imports and expects this status, with a message that contains `text`. */
void expect_error(const char *model, ml_status, const char *text);
/* The module, or NULL with what was reported in cx. */
ml_module *import_text(const char *model, const ml_import_options *);
/* All that was reported, hints included. */
const char *messages(void);
#endif
