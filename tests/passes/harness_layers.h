/* harness_layers.h -- a pass on a model of three feed-forward layers, run by the evaluator. */
#ifndef HARNESS_LAYERS_H
#define HARNESS_LAYERS_H
#include "harness_exec.h"
#include "ir/diag.h"
#include "passes/pipeline.h"
#include "passes/record.h"

/* Three layers on a stream f32[b, 3, 2, 2], of which the second one adds what `%v` gives, the
 * others more. */
#define HARNESS_FFN(name, in, down)                                                                \
	"  %" name "u = linear " in ", %u : f32[b, 3, 2, 3]\n"                                     \
	"  %" name "a = gelu %" name "u : f32[b, 3, 2, 3]\n"                                       \
	"  %" name "d = linear %" name "a, " down " : f32[b, 3, 2, 2]\n"                           \
	"  %" name " = add " in ", %" name "d : f32[b, 3, 2, 2]\n"
#define HARNESS_MODEL(v, layers, last)                                                             \
	"module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 3, 2, 2]\n"                               \
	"  %u = const {1, -1, 0.5, 2, 0.25, 1} : f32[2, 3]\n"                                      \
	"  %d = const {1, 0.5, -1, 1, 2, -0.5} : f32[3, 2]\n" v                                    \
	"  %c = const {0.25, -2, 1.5, 1} : f32[2, 2]\n" layers "  %y = linear " last               \
	", %c : f32[b, 3, 2, 2]\n  out \"y\" = %y\n}\n"
#define HARNESS_LAYERS(v)                                                                          \
	HARNESS_MODEL("  %v = const {" v "} : f32[3, 2]\n",                                        \
		      HARNESS_FFN("l", "%x", "%d") HARNESS_FFN("m", "%l", "%v")                    \
			      HARNESS_FFN("n", "%m", "%d"),                                        \
		      "%n")

typedef struct harness_layers {
	ml_context cx; /* first: it is what harness_exec() is lent */
	ml_module *m;
	ml_record record;
	harness_samples samples;
	ml_exec exec;
	ml_data data;
	ml_pipeline_options o;
} harness_layers;

void harness_open(harness_layers *, const char *model, const char *passes);
void harness_close(harness_layers *);
ml_status harness_pipeline(harness_layers *); /* what the options ask for */
const char *harness_printed(harness_layers *, const ml_module *);
const char *harness_choice(const harness_layers *, const char *subject); /* "": undecided */
/* The pipeline fails so, and the last message has this text. */
void harness_refused(harness_layers *, ml_status, const char *text);
#endif
