/* external.c -- tensor data kept in files next to the model. */
#include "external.h"
#include <string.h>
#include <unistd.h>

typedef struct place {
	const char *location;
	const char *offset, *length; /* decimal text, NULL when absent */
} place;

/* One error text for all that is wrong with a tensor's external data. */
static ml_status
refuse(ml_context *cx, ml_status status, const ml_prov *at, const Onnx__TensorProto *t,
       const char *location, const char *what)
{
	return ml_error(cx, status, at, "external data of tensor '%s'%s%s%s: %s",
			ml_escaped(&cx->arena, t->name), location ? " in '" : "",
			location ? ml_escaped(&cx->arena, location) : "", location ? "'" : "",
			what);
}

/* Digits alone: no sign, no space, no hexadecimal, no wrap-around. */
static bool
parse_decimal(const char *text, uint64_t *value)
{
	uint64_t v = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
			return false;
	}
	*value = v;
	return true;
}

/* Other keys ("checksum", "basepath" and what writers invent) say nothing about where to read. */
static bool
read_place(const Onnx__TensorProto *t, place *p)
{
	*p = (place){0};
	for (size_t i = 0; i < t->n_external_data; i++) {
		const char *key = t->external_data[i]->key, *value = t->external_data[i]->value;
		const char **field = NULL;
		if (key && !strcmp(key, "location"))
			field = &p->location;
		else if (key && !strcmp(key, "offset"))
			field = &p->offset;
		else if (key && !strcmp(key, "length"))
			field = &p->length;
		if (!field)
			continue;
		if (*field)
			return false;
		*field = value ? value : "";
	}
	return true;
}

static const char *
map_location(ml_onnx_model *m, const char *location, ml_mapping **file)
{
	ml_onnx_external *e;
	int fd;

	for (e = m->external; e; e = e->next)
		if (!strcmp(e->location, location)) {
			*file = e->mapping;
			return NULL;
		}
	e = ML_NEW(&m->arena, ml_onnx_external);
	e->location = location;
	e->mapping = ml_mapping_new(m->memory);
	e->next = m->external;
	m->external = e; /* from here on ml_onnx_close frees it */
	const char *wrong = ml_open_beneath(m->directory, location, &fd);
	if (!wrong) {
		wrong = ml_mapping_fill(e->mapping, fd);
		close(fd);
	}
	if (wrong) {
		m->external = e->next;
		ml_mapping_drop(e->mapping);
		return wrong;
	}
	*file = e->mapping;
	return NULL;
}

ml_status
ml_external_find(ml_context *cx, ml_onnx_model *m, const Onnx__TensorProto *t, uint64_t need,
		 const ml_prov *at, ml_mapping **file, const uint8_t **bytes)
{
	uint64_t offset = 0, length = need;
	place p;

	if (!read_place(t, &p))
		return refuse(cx, ML_ERR_FORMAT, at, t, NULL, "a key is given twice");
	if (!p.location)
		return refuse(cx, ML_ERR_FORMAT, at, t, NULL, "it has no location");
	if ((p.offset && !parse_decimal(p.offset, &offset)) ||
	    (p.length && !parse_decimal(p.length, &length)))
		return refuse(cx, ML_ERR_FORMAT, at, t, p.location,
			      "offset or length is not a decimal number");
	if (length != need)
		return refuse(cx, ML_ERR_FORMAT, at, t, p.location,
			      ml_format(&cx->arena, "its shape needs %llu bytes, length says %llu",
					(unsigned long long)need, (unsigned long long)length));
	if (m->directory < 0)
		return refuse(cx, ML_ERR_ARG, at, t, p.location,
			      "the model was given as bytes, without a directory to look in");
	const char *wrong = map_location(m, p.location, file);
	if (wrong) {
		refuse(cx, ML_ERR_IO, at, t, p.location, wrong);
		ml_hint(cx, "external data must be a regular file, no link, in the directory of "
			    "the model or below");
		return ML_ERR_IO;
	}
	if (offset > (*file)->size || length > (*file)->size - offset)
		return refuse(cx, ML_ERR_FORMAT, at, t, p.location,
			      ml_format(&cx->arena,
					"%llu bytes from %llu on are wanted, the file has %llu",
					(unsigned long long)length, (unsigned long long)offset,
					(unsigned long long)(*file)->size));
	*bytes = length ? (*file)->bytes + offset : NULL;
	return ML_OK;
}
