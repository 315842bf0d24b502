/* parse_scope.c -- names of values while IR text is parsed. */
#include "parse.h"
#include <string.h>

static ml_scope_entry *
place(const ml_scope *s, ml_span id)
{
	size_t at = (size_t)ml_hash_bytes(id.at, id.length, 0) & (s->room - 1);

	while (s->entry[at].name &&
	       (s->entry[at].length != id.length || memcmp(s->entry[at].name, id.at, id.length)))
		at = (at + 1) & (s->room - 1);
	return &s->entry[at];
}

static void
grow(ml_parser *p, ml_scope *s)
{
	ml_scope old = *s;

	s->room = old.room ? old.room * 2 : 32;
	s->entry = ML_NEW_ARRAY(&p->m->arena, ml_scope_entry, s->room);
	for (size_t i = 0; i < old.room; i++)
		if (old.entry[i].name)
			*place(s, (ml_span){old.entry[i].name, old.entry[i].length}) = old.entry[i];
}

static ml_status
parse_id(ml_parser *p, ml_span *id)
{
	ML_STEP(ml_expect(p, "%"));
	id->at = p->at;
	while (p->at < p->end && ml_is_name_char(*p->at, false))
		p->at++;
	id->length = (size_t)(p->at - id->at);
	return id->length ? ML_OK : ml_parse_error(p, p->at, "expected a name behind %%");
}

ml_status
ml_parse_definition(ml_parser *p, ml_definition *d)
{
	d->name = NULL;
	ML_STEP(parse_id(p, &d->id));
	return ml_next_is(p, "\"") ? ml_parse_string(p, &d->name) : ML_OK;
}

ml_status
ml_define(ml_parser *p, ml_scope *s, const ml_definition *d, ml_value *v)
{
	if (2 * s->count >= s->room)
		grow(p, s);
	ml_scope_entry *e = place(s, d->id);
	if (e->name)
		return ml_parse_error(p, d->id.at, "%%%.*s is defined twice",
				      ml_shown(d->id.length), d->id.at);
	*e = (ml_scope_entry){d->id.at, d->id.length, v};
	s->count++;
	v->name = d->name;
	return ML_OK;
}

ml_status
ml_parse_use(ml_parser *p, const ml_scope *s, ml_value **v)
{
	ml_span id;

	ML_STEP(parse_id(p, &id));
	*v = s->room ? place(s, id)->value : NULL;
	if (!*v)
		return ml_parse_error(p, id.at - 1, "%%%.*s is not defined in this block",
				      ml_shown(id.length), id.at);
	return ML_OK;
}
