/* signature.c -- what a compiled model is from outside: C parameters and the signature text. */
#include "signature.h"
#include "../ir/custom.h"
#include <ctype.h>
#include <string.h>

/* Words no parameter or function may be called, in C or C++. */
static bool
is_reserved(const char *name)
{
	static const char *const words[] = {
		"alignas",  "alignof",  "and",       "asm",       "auto",      "bool",
		"break",    "case",     "catch",     "char",      "class",     "compl",
		"concept",  "const",    "consteval", "constexpr", "constinit", "continue",
		"decltype", "default",  "delete",    "do",        "double",    "else",
		"enum",     "explicit", "export",    "extern",    "false",     "float",
		"for",      "friend",   "goto",      "if",        "inline",    "int",
		"long",     "mutable",  "namespace", "new",       "noexcept",  "not",
		"nullptr",  "operator", "or",        "private",   "protected", "public",
		"register", "requires", "restrict",  "return",    "short",     "signed",
		"sizeof",   "static",   "struct",    "switch",    "template",  "this",
		"throw",    "true",     "try",       "typedef",   "typeid",    "typename",
		"union",    "unsigned", "using",     "virtual",   "void",      "volatile",
		"wchar_t",  "while",    "xor",
	};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (!strcmp(words[i], name))
			return true;
	return false;
}

/* Functions that artefacts call: a model of that name must not take their place. */
static bool
is_taken(const char *name)
{
	static const char *const names[] = {
		"main",   "malloc",  "free",   "getenv",         "syscall",      "getauxval",
		"memcpy", "memmove", "memset", "pthread_create", "pthread_join",
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(names[i], name))
			return true;
	return !strncmp(name, "mlopt_", 6) || !strncmp(name, "mlrt_", 5) ||
	       !strncmp(name, "gemm_", 5);
}

/* Letters, digits and _ stay; anything else becomes _; identifiers with a leading _ are libc's. */
static char *
identifier(ml_arena *arena, const char *name, const char *instead)
{
	const char *from = name && *name ? name : instead;
	bool prefix = !isalpha((unsigned char)from[0]);
	char *id = ml_format(arena, "%s%s", prefix ? "n" : "", from);

	for (char *c = id; *c; c++)
		if ((unsigned char)*c >= 0x80 || !isalnum((unsigned char)*c))
			*c = '_';
	return is_reserved(id) ? ml_format(arena, "%s_", id) : id;
}

static bool
is_used(const ml_signature *s, const char *name)
{
	for (int i = 0; i < s->params.count; i++)
		if (!strcmp(s->params.at[i].name, name))
			return true;
	return false;
}

static void
add_param(ml_arena *arena, ml_signature *s, ml_c_kind kind, int index, const char *known,
	  const char *instead)
{
	const char *base = identifier(arena, known, ml_format(arena, "%s%d", instead, index));
	const char *name = base;

	for (int i = 2; is_used(s, name); i++)
		name = ml_format(arena, "%s_%d", base, i);
	ml_c_param p = {kind, index, name, known ? known : ""};
	ML_PUSH(arena, s->params, p);
}

/* Marks the symbols that occur in a dim. */
static void
mark_symbols(ml_dim d, bool *seen)
{
	const ml_term *term;
	int n = ml_dim_terms(d, &term);

	for (int i = 0; i < n; i++)
		for (int k = 0; k < term[i].natoms; k++) {
			const ml_atom *a = term[i].atom[k];
			if (a->kind == ML_ATOM_SYM) {
				seen[a->sym->index] = true;
				continue;
			}
			mark_symbols(a->a, seen);
			mark_symbols(a->b, seen);
		}
}

static void
mark_type(const ml_type *t, bool *seen)
{
	for (int k = 0; k < t->rank; k++)
		mark_symbols(t->dim[k], seen);
}

static void
add_params(ml_arena *arena, ml_signature *s)
{
	const ml_block *main = s->m->main;
	int symbols = ml_sym_count(s->m->dims), results = main->last->nin;
	bool *given = ML_NEW_ARRAY(arena, bool, symbols),
	     *shown = ML_NEW_ARRAY(arena, bool, symbols);

	for (int i = 0; i < main->nargs; i++) {
		add_param(arena, s, ML_C_INPUT, i, main->arg[i]->name, "input");
		mark_type(&main->arg[i]->type, given);
	}
	for (int i = 0; i < results; i++) {
		const char *name = i < s->m->output_names.count ? s->m->output_names.at[i] : NULL;
		add_param(arena, s, ML_C_OUTPUT, i, name, "output");
		mark_type(&ml_in(main->last, i)->type, shown);
	}
	for (int i = 0; i < symbols; i++)
		if (given[i])
			add_param(arena, s, ML_C_DIM, i, ml_sym_at(s->m->dims, i)->name, "dim");
	for (int i = 0; i < symbols; i++)
		if (shown[i] && ml_sym_at(s->m->dims, i)->fresh)
			add_param(arena, s, ML_C_SIZE, i, ml_format(arena, "count_%d", i), "count");
	add_param(arena, s, ML_C_WORKSPACE, 0, "workspace", "workspace");
}

static void
collect_custom(ml_arena *arena, const ml_block *block, ml_signature *s)
{
	for (const ml_node *n = block->first; n; n = n->next) {
		for (int i = 0; i < n->nblocks; i++)
			collect_custom(arena, n->body[i], s);
		if (n->op != ML_OP_custom)
			continue;
		const ml_custom_op *op = ml_custom_find(s->m->cx, ML_A(n, custom, domain).str,
							ML_A(n, custom, name).str);
		bool known = false;
		for (int i = 0; i < s->custom.count; i++)
			known |= s->custom.at[i] == op;
		if (!known)
			ML_PUSH(arena, s->custom, op);
	}
}

/* ---- text ---- */

static void
put_quoted(ml_text *t, const char *name)
{
	ml_put(t, "\"");
	ml_put_escaped(t, name);
	ml_put(t, "\"");
}

static void
put_tensor(ml_text *t, const char *what, const ml_c_param *p, const ml_type *type)
{
	ml_put(t, "%s ", what);
	put_quoted(t, p->known);
	ml_put(t, " %s %s [", ml_dtype_name(type->dtype), p->name);
	for (int k = 0; k < type->rank; k++) {
		ml_put(t, k ? ", " : "");
		ml_dim_print(t, type->dim[k]);
	}
	ml_put(t, "]\n");
}

static void
put_dim(ml_text *t, const ml_c_param *p, const ml_sym *s)
{
	ml_put(t, "dim ");
	put_quoted(t, p->known);
	ml_put(t, " %lld ", (long long)s->lo);
	if (s->hi == INT64_MAX)
		ml_put(t, "*");
	else
		ml_put(t, "%lld", (long long)s->hi);
	ml_put(t, " %s\n", p->name);
}

static const char *
signature_text(ml_arena *arena, const ml_plan *plan, const ml_signature *s)
{
	ml_text t;

	ml_text_init(&t, arena);
	ml_put(&t, "mlopt 1\nmodel ");
	put_quoted(&t, s->m->name ? s->m->name : "");
	ml_put(&t, "\nentry %s\n", s->entry);
	for (int i = 0; i < s->params.count; i++) {
		const ml_c_param *p = &s->params.at[i];
		switch (p->kind) {
		case ML_C_INPUT:
			put_tensor(&t, "input", p, &s->m->main->arg[p->index]->type);
			break;
		case ML_C_OUTPUT:
			put_tensor(&t, "output", p, &ml_in(s->m->main->last, p->index)->type);
			break;
		case ML_C_DIM: put_dim(&t, p, ml_sym_at(s->m->dims, p->index)); break;
		case ML_C_SIZE:
			ml_put(&t, "size \"%s\" %s\n", ml_sym_at(s->m->dims, p->index)->name,
			       p->name);
			break;
		case ML_C_WORKSPACE: break;
		}
	}
	for (int i = 0; i < plan->states.count; i++)
		ml_put(&t, "state %d %d %d\n", plan->states.at[i].in, plan->states.at[i].out,
		       (int)plan->states.at[i].axis);
	for (int i = 0; i < s->custom.count; i++) {
		ml_put(&t, "custom ");
		put_quoted(&t, s->custom.at[i]->domain);
		ml_put(&t, " ");
		put_quoted(&t, s->custom.at[i]->name);
		ml_put(&t, " %s\n", s->custom.at[i]->symbol);
	}
	return t.at;
}

void
ml_signature_make(const ml_plan *plan, const char *entry, ml_signature *s)
{
	*s = (ml_signature){.m = plan->m};
	s->entry = identifier(plan->arena, entry ? entry : plan->m->name, "model");
	if (is_taken(s->entry))
		s->entry = ml_format(plan->arena, "%s_model", s->entry);
	add_params(plan->arena, s);
	collect_custom(plan->arena, plan->m->main, s);
	s->text = signature_text(plan->arena, plan, s);
}
