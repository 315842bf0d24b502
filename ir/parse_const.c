/* parse_const.c -- constants in IR text: element lists, splats, references by hash. */
#include "parse.h"
#include <inttypes.h>
#include <string.h>

enum { SPLAT_TOTAL = 256 << 20 }; /* bytes; a short text must not fill memory */

/* The literal is read before its type is known: this moves behind it. */
static ml_status
skip_literal(ml_parser *p)
{
	uint64_t hash;

	if (ml_parse_hash(p, &hash))
		return ML_OK;
	if (ml_accept(p, "{")) {
		while (p->at < p->end && *p->at != '}' && *p->at != ':')
			p->at++;
		return ml_expect(p, "}");
	}
	if (!ml_accept(p, "splat"))
		return ml_parse_error(p, p->at, "expected {elements}, splat or #hash");
	ml_skip(p);
	while (p->at < p->end && *p->at != ' ' && *p->at != ':' && *p->at != '\n')
		p->at++;
	return ML_OK;
}

static ml_status
read_elements(ml_parser *p, const ml_type *type, int64_t count, void *bytes)
{
	for (int64_t i = 0; i < count; i++) {
		if (i)
			ML_STEP(ml_expect(p, ","));
		ml_skip(p);
		if (!ml_read_element(type->dtype, &p->at, p->end, bytes, i))
			return ml_parse_error(p, p->at,
					      "expected element %" PRId64 " of %" PRId64 " as %s",
					      i, count, ml_dtype_name(type->dtype));
	}
	return ml_expect(p, "}");
}

static ml_status
read_splat(ml_parser *p, const ml_type *type, int64_t count, char *bytes)
{
	size_t size = (size_t)ml_dtype_bytes(type->dtype);

	ml_skip(p);
	if (!count || !ml_read_element(type->dtype, &p->at, p->end, bytes, 0))
		return ml_parse_error(p, p->at, "expected a number as %s",
				      ml_dtype_name(type->dtype));
	for (int64_t i = 1; i < count; i++)
		memcpy(bytes + (size_t)i * size, bytes, size);
	return ML_OK;
}

static ml_status
find_blob(ml_parser *p, const char *start, uint64_t hash, const ml_type *type, uint64_t size,
	  ml_blob **blob)
{
	ml_blob *found = p->find ? p->find(p->user, hash, type) : NULL;

	if (!found)
		return ml_parse_error(
			p, start, "the bytes of constant #%016" PRIx64 " are not at hand", hash);
	if (found->size != size)
		return ml_parse_error(p, start,
				      "constant #%016" PRIx64 " has %" PRIu64
				      " bytes, its type needs %" PRIu64,
				      hash, found->size, size);
	*blob = ml_blob_share(found);
	return ML_OK;
}

/* At the literal again, with its type known. */
static ml_status
read_literal(ml_parser *p, const ml_type *type, ml_blob **blob)
{
	int64_t count;
	uint64_t hash, size = (uint64_t)ml_dtype_bytes(type->dtype);
	const char *start = p->at;
	void *bytes;

	if (!ml_type_static_count(type, &count) ||
	    __builtin_mul_overflow(size, (uint64_t)count, &size))
		return ml_parse_error(p, start, "a constant needs a type of known size");
	if (ml_parse_hash(p, &hash))
		return find_blob(p, start, hash, type, size, blob);
	bool list = ml_accept(p, "{");
	if (list && (uint64_t)count > (uint64_t)(p->end - p->at))
		return ml_parse_error(p, start, "%" PRId64 " elements are expected here", count);
	if (!list && (size > ML_TEXT_SPLAT_BYTES || (p->splat_bytes += size) > SPLAT_TOTAL))
		return ml_parse_error(p, start, "this splat is too large");
	*blob = ml_blob_new(&p->cx->memory, size, &bytes);
	if (list)
		return read_elements(p, type, count, bytes);
	ml_accept(p, "splat");
	return read_splat(p, type, count, bytes);
}

ml_status
ml_parse_const(ml_parser *p, ml_builder *b, ml_node **node)
{
	ml_blob *blob = NULL;
	ml_type type;

	ml_skip(p);
	const char *literal = p->at;
	ML_STEP(skip_literal(p));
	ML_STEP(ml_expect(p, ":"));
	ML_STEP(ml_parse_value_type(p, &type));
	const char *behind = p->at;
	p->at = literal;
	ml_status status = read_literal(p, &type, &blob);
	if (status) {
		ml_blob_drop(blob);
		return status;
	}
	p->at = behind;
	ML_STEP(ml_parse_prov(p, &b->prov));
	ml_value *v = ml_build_const(b, &type, blob);
	*node = v ? v->def : NULL;
	return v ? ML_OK : ml_parse_failed(p, literal, b->failed);
}
