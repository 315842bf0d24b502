/* parse.h -- inside of the parser of IR text: its state, tokens and scopes. */
#ifndef ML_PARSE_H
#define ML_PARSE_H
#include "text.h"

typedef struct ml_parser {
	ml_context *cx;
	ml_module *m;
	const char *start, *at, *end;
	ml_find_blob *find;
	void *user;
	int depth;            /* of bodies */
	uint64_t splat_bytes; /* made so far */
} ml_parser;

/* The names of one block: bodies see nothing else. */
typedef struct ml_scope_entry {
	const char *name; /* without %, in the text; NULL when free */
	size_t length;
	ml_value *value;
} ml_scope_entry;
typedef struct ml_scope {
	ml_scope_entry *entry;
	size_t room, count;
} ml_scope;

/* A name between two points of the text. */
typedef struct ml_span {
	const char *at;
	size_t length;
} ml_span;

/* How much of a name a message shows. */
static inline int
ml_shown(size_t length)
{
	return length > 60 ? 60 : (int)length;
}

/* ---- parse_token.c ---- */

/* `12:3: error text`, position `at`. */
ml_status ml_parse_error(ml_parser *, const char *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Adds the position to an error that inference reported. */
ml_status ml_parse_failed(ml_parser *, const char *at, ml_status);
void ml_skip(ml_parser *); /* blanks and comments: `# ` to the end of the line */
/* Whether the next token is this word or punctuation; ml_accept moves behind it. */
bool ml_next_is(ml_parser *, const char *token);
bool ml_accept(ml_parser *, const char *token);
ml_status ml_expect(ml_parser *, const char *token);
ml_status ml_parse_word(ml_parser *, const char *what, ml_span *);
ml_status ml_parse_string(ml_parser *, const char **); /* quoted, in the module's arena */
ml_status ml_parse_int(ml_parser *, int64_t lo, int64_t hi, int64_t *);
ml_status ml_parse_dim(ml_parser *, ml_dim *);
ml_status ml_parse_value_type(ml_parser *, ml_type *);
bool ml_parse_hash(ml_parser *, uint64_t *); /* #0123456789abcdef */
/* Any number of @"node":Op-13[4]; NULL when there is none. */
ml_status ml_parse_prov(ml_parser *, const ml_prov **);

/* ---- parse_scope.c ---- */

typedef struct ml_definition {
	ml_span id;
	const char *name;
} ml_definition;
/* %id "name" */
ml_status ml_parse_definition(ml_parser *, ml_definition *);
ml_status ml_define(ml_parser *, ml_scope *, const ml_definition *, ml_value *);
/* %id of a value already defined. */
ml_status ml_parse_use(ml_parser *, const ml_scope *, ml_value **);

/* ---- parse_node.c, parse_const.c ---- */

/* Nodes up to (in bodies: including) the yield. */
ml_status ml_parse_nodes(ml_parser *, ml_block *, ml_scope *);
/* `{1, 2} : s64[2]`, the part of a const node behind its name. */
ml_status ml_parse_const(ml_parser *, ml_builder *, ml_node **);
#endif
