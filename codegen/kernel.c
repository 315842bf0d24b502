/* kernel.c -- specifications as text, and each family's grid and emitter. */
#include "family.h"
#include <string.h>

typedef struct family_row {
	const char *name;
	ml_status (*grid)(ml_kernel *, ml_grid *);
	ml_status (*emit)(ml_emit *, ml_kernel *, const char *name);
} family_row;

static const family_row families[ML_FAMILY_COUNT] = {
	[ML_FAMILY_ROWS] = {"rows", ml_rows_grid, ml_rows_emit},
	[ML_FAMILY_CONTRACT] = {"contract", ml_contract_grid, ml_contract_emit},
	[ML_FAMILY_U4] = {"u4", ml_u4_grid, ml_u4_emit},
	[ML_FAMILY_PACK] = {"pack", ml_pack_grid, ml_pack_emit},
	[ML_FAMILY_ATTENTION] = {"attention", ml_attention_grid, ml_attention_emit},
	[ML_FAMILY_SCATTER] = {"scatter", ml_scatter_grid, ml_scatter_emit},
	[ML_FAMILY_SCAN] = {"scan", ml_scan_grid, ml_scan_emit},
};

void
ml_kernel_print(ml_text *t, const ml_kernel *k)
{
	ml_put(t, "kernel %s %d %s\n", families[k->family].name, k->row_axes, k->note);
	ml_print(t, k->m);
}

/* One word of the first line, up to a blank. */
static const char *
next_word(ml_arena *arena, const char **at, const char *end)
{
	const char *from = *at;

	while (*at < end && **at != ' ')
		++*at;
	const char *word = ml_strndup(arena, from, (size_t)(*at - from));
	*at += *at < end;
	return word;
}

static ml_status
parse_first_line(ml_context *cx, const char *at, const char *end, ml_kernel *k)
{
	ml_arena *arena = &k->m->arena;
	const char *kernel = next_word(arena, &at, end), *name = next_word(arena, &at, end);
	const char *axes = next_word(arena, &at, end);

	if (strcmp(kernel, "kernel") || axes[0] < '0' || axes[0] > '9' || axes[1])
		return ml_error(cx, ML_ERR_FORMAT, NULL, "not a kernel specification");
	k->row_axes = axes[0] - '0';
	k->note = ml_strndup(arena, at, (size_t)(end - at));
	for (int i = 0; i < ML_FAMILY_COUNT; i++)
		if (!strcmp(name, families[i].name)) {
			k->family = (ml_family)i;
			return ML_OK;
		}
	return ml_error(cx, ML_ERR_FORMAT, NULL, "unknown kernel family '%s'", name);
}

ml_status
ml_kernel_parse(ml_context *cx, const char *text, size_t length, ml_kernel **out)
{
	const char *line = memchr(text, '\n', length);
	ml_module *m;

	if (!line)
		return ml_error(cx, ML_ERR_FORMAT, NULL, "not a kernel specification");
	ML_STEP(ml_parse(cx, line, length - (size_t)(line - text), NULL, NULL, &m));
	ml_kernel *k = ML_NEW(&m->arena, ml_kernel);
	k->m = m;
	ml_status status = parse_first_line(cx, text, line, k);
	if (status)
		ml_module_free(m);
	else
		*out = k;
	return status;
}

static ml_status
no_family(const ml_kernel *k)
{
	return ml_error(k->m->cx, ML_ERR_CODEGEN, NULL, "no code for kernels of family '%s'",
			families[k->family].name);
}

ml_status
ml_kernel_grid(ml_kernel *k, ml_grid *grid)
{
	return families[k->family].grid ? families[k->family].grid(k, grid) : no_family(k);
}

ml_status
ml_kernel_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	return families[k->family].emit ? families[k->family].emit(e, k, name) : no_family(k);
}
