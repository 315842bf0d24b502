/* inspect.c -- what a model is: its inputs, outputs, parameters, operators and symbolic dims. */
#include "driver.h"
#include <inttypes.h>
#include <string.h>

typedef struct counts {
	int ops[ML_OP_LIMIT], nodes;
	int64_t parameters;
	uint64_t bytes;
} counts;

/* Constants of more than one element: what people call parameters. */
static void
count_block(counts *s, const ml_block *b)
{
	int64_t count;

	for (const ml_node *n = b->first; n; n = n->next) {
		for (int i = 0; i < n->nblocks; i++)
			count_block(s, n->body[i]);
		if (n->op == ML_OP_yield)
			continue;
		if (n->op != ML_OP_const) {
			s->ops[n->op]++;
			s->nodes++;
		} else if (ml_type_static_count(&n->out[0].type, &count) && count > 1) {
			s->parameters += count;
			s->bytes += ml_const_blob(&n->out[0])->size;
		}
	}
}

static const char *
output_name(const ml_module *m, int i)
{
	return i < m->output_names.count ? m->output_names.at[i] : "";
}

static void
put_interval(ml_text *t, const ml_sym *sym)
{
	ml_put(t, "%" PRId64 " to ", sym->lo);
	if (sym->hi == INT64_MAX)
		ml_put(t, "any");
	else
		ml_put(t, "%" PRId64, sym->hi);
}

/* ---- for people ---- */

static void
put_value(ml_text *t, const char *kind, const char *name, const ml_type *type)
{
	ml_put(t, "%-10s ", kind);
	ml_put_escaped(t, name ? name : "");
	ml_put(t, "  ");
	ml_type_print(t, type);
	ml_put(t, "\n");
}

static void
put_text(ml_text *t, const ml_module *m, const counts *s)
{
	const ml_node *yield = m->main->last;

	ml_put(t, "model      ");
	ml_put_escaped(t, m->name);
	ml_put(t, m->opset ? "  (opset %d)\n" : "\n", m->opset);
	for (int i = 0; i < m->main->nargs; i++)
		put_value(t, "input", m->main->arg[i]->name, &m->main->arg[i]->type);
	for (int i = 0; i < yield->nin; i++)
		put_value(t, "output", output_name(m, i), &ml_in(yield, i)->type);
	for (int i = 0; i < ml_sym_count(m->dims); i++) {
		ml_put(t, "dim        %s  ", ml_escaped(t->arena, ml_sym_at(m->dims, i)->name));
		put_interval(t, ml_sym_at(m->dims, i));
		ml_put(t, "\n");
	}
	ml_put(t, "parameters %" PRId64 "  (%.2f MB)\n", s->parameters, (double)s->bytes * 1e-6);
	ml_put(t, "operators  %d\n", s->nodes);
	for (int op = 0; op < ML_OP_LIMIT; op++)
		if (s->ops[op])
			ml_put(t, "%8d   %s\n", s->ops[op], ml_op_get((ml_op)op)->name);
}

/* ---- for programs ---- */

/* JSON's own escapes, so that a program gets back the name that the model has. */
static void
put_json_string(ml_text *t, const char *text)
{
	ml_put(t, "\"");
	ml_put_json(t, text);
	ml_put(t, "\"");
}

static void
put_json_value(ml_text *t, const char *name, const ml_type *type, bool first)
{
	ml_put(t, "%s\n    {\"name\": ", first ? "" : ",");
	put_json_string(t, name ? name : "");
	ml_put(t, ", \"dtype\": \"%s\", \"shape\": [", ml_dtype_name(type->dtype));
	for (int i = 0; i < type->rank; i++) {
		ml_text dim;
		ml_text_init(&dim, t->arena);
		ml_dim_print(&dim, type->dim[i]);
		if (i)
			ml_put(t, ", ");
		if (ml_dim_is_int(type->dim[i], NULL))
			ml_put(t, "%s", dim.at);
		else
			put_json_string(t, dim.at);
	}
	ml_put(t, "]}");
}

static void
put_json(ml_text *t, const ml_module *m, const counts *s)
{
	const ml_node *yield = m->main->last;
	const char *comma = "";

	ml_put(t, "{\n  \"model\": ");
	put_json_string(t, m->name);
	ml_put(t, ",\n  \"opset\": %d,\n  \"inputs\": [", m->opset);
	for (int i = 0; i < m->main->nargs; i++)
		put_json_value(t, m->main->arg[i]->name, &m->main->arg[i]->type, !i);
	ml_put(t, "\n  ],\n  \"outputs\": [");
	for (int i = 0; i < yield->nin; i++)
		put_json_value(t, output_name(m, i), &ml_in(yield, i)->type, !i);
	ml_put(t, "\n  ],\n  \"dims\": [");
	for (int i = 0; i < ml_sym_count(m->dims); i++) {
		ml_put(t, i ? ", " : "");
		put_json_string(t, ml_sym_at(m->dims, i)->name);
	}
	ml_put(t,
	       "],\n  \"parameters\": %" PRId64 ",\n  \"parameter_bytes\": %" PRIu64
	       ",\n  \"nodes\": %d,\n  \"operators\": {",
	       s->parameters, s->bytes, s->nodes);
	for (int op = 0; op < ML_OP_LIMIT; op++)
		if (s->ops[op]) {
			ml_put(t, "%s\"%s\": %d", comma, ml_op_get((ml_op)op)->name, s->ops[op]);
			comma = ", ";
		}
	ml_put(t, "}\n}\n");
}

static ml_status
describe_model(const ml_options *o, ml_module *m, ml_text *t, bool json)
{
	counts s = {0};

	(void)o;
	count_block(&s, m->main);
	(json ? put_json : put_text)(t, m, &s);
	return ML_OK;
}

/* ---- reading and writing ---- */

typedef struct inspection {
	const ml_inspect_job *job;
	const ml_options *o;
	ml_module *m;
	ml_arena arena;
} inspection;

static ml_status
inspect(void *job)
{
	inspection *s = job;
	const ml_inspect_job *j = s->job;
	ml_text t;

	ML_STEP(ml_read_model(j->cx, &(ml_source){.path = j->path}, s->o, &s->m));
	ml_text_init(&t, &s->arena);
	ML_STEP(j->describe(s->o, s->m, &t, j->json));
	j->write(j->user, t.at, t.length);
	return ML_OK;
}

ml_status
ml_inspect_by(const ml_inspect_job *job)
{
	ml_options *own = NULL;
	inspection s = {.job = job};

	if (!job->o)
		ML_STEP(ml_options_new(job->cx, &own));
	s.o = job->o ? job->o : own;
	ml_arena_init(&s.arena, &job->cx->memory);
	ml_status status = ml_enter(job->cx, inspect, &s);
	if (s.m)
		ml_module_free(s.m);
	ml_arena_free(&s.arena);
	ml_options_free(own);
	return status;
}

ml_status
ml_inspect(ml_context *cx, const char *path, const ml_options *o, bool json,
	   void (*write)(void *, const char *, size_t), void *user)
{
	return ml_inspect_by(&(ml_inspect_job){.cx = cx,
					       .path = path,
					       .o = o,
					       .json = json,
					       .describe = describe_model,
					       .write = write,
					       .user = user});
}
