/* target.c -- reads what --prune= asks for: layers, a share, a speed-up, or a size. */
#include "prune.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static ml_status
refuse(ml_context *cx, const char *text)
{
	ml_error(cx, ML_ERR_ARG, NULL, "prune cannot be '%s'", ml_escaped(&cx->arena, text));
	ml_hint(cx, "it is a number of layers (2), a share of the layers' weights (25%%), a "
		    "speed-up (1.5x), so many times fewer multiply-adds (1.5x-macs), or a size "
		    "(12MB)");
	return ML_ERR_ARG;
}

ml_status
ml_target_parse(ml_context *cx, const char *text, ml_target *t)
{
	static const struct {
		const char *unit;
		ml_target_kind kind;
		double factor, above, below; /* exclusive */
	} units[] = {
		{"", ML_TARGET_LAYERS, 1, 0, 1e6},     {"%", ML_TARGET_SHARE, 0.01, 0, 1},
		{"x", ML_TARGET_SPEEDUP, 1, 1, 1e6},   {"MB", ML_TARGET_SIZE, 1e6, 0, 1e15},
		{"x-macs", ML_TARGET_MACS, 1, 1, 1e6}, {"kB", ML_TARGET_SIZE, 1e3, 0, 1e15},
		{"GB", ML_TARGET_SIZE, 1e9, 0, 1e15},
	};
	char *end;
	double number = strtod(text, &end);

	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		double value = number * units[i].factor;
		if (end == text || strcmp(end, units[i].unit))
			continue;
		if (!(value > units[i].above && value < units[i].below))
			return refuse(cx, text);
		if (units[i].kind == ML_TARGET_LAYERS && value != floor(value))
			return refuse(cx, text);
		*t = (ml_target){units[i].kind, value, text};
		return ML_OK;
	}
	return refuse(cx, text);
}
