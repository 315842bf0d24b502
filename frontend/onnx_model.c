/* onnx_model.c -- opening a model: map, scan, unpack the skeleton, check, order. */
#include "onnx_model.h"
#include "../ir/catch.h"
#include "external.h"
#include "functions.h"
#include "mapping.h"
#include "order.h"
#include "skeleton.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum {
	/* What unpacking may take: nodes with the shortest names come to 16 bytes per byte. */
	UNPACK_BASE = 16 << 20,
	UNPACK_FACTOR = 24,
	OLDEST_OPSET = 7,
	NEWEST_OPSET = 28,
	MOST_IMPORTS = 1000, /* they are searched one by one */
};
static const size_t unpack_most = (size_t)2 << 30;

/* protobuf-c's allocator: everything into the model's arena, up to a limit. */
typedef struct unpacking {
	ml_arena *arena;
	size_t limit;
	bool over; /* the limit, not the allocator, said no */
} unpacking;

static void *
unpack_alloc(void *user, size_t size)
{
	unpacking *u = user;

	if (size > u->limit || u->arena->total > u->limit - size) {
		u->over = true;
		return NULL;
	}
	return ml_alloc(u->arena, size);
}

static void
unpack_free(void *user, void *p)
{
	(void)user;
	(void)p;
}

static ml_status
unpack(ml_context *cx, ml_onnx_model *m)
{
	const ml_skeleton *skeleton = &m->skeleton;
	unpacking u = {.arena = &m->arena, .limit = unpack_most};
	ProtobufCAllocator allocator = {unpack_alloc, unpack_free, &u};

	if (skeleton->length < (unpack_most - UNPACK_BASE) / UNPACK_FACTOR)
		u.limit = UNPACK_BASE + UNPACK_FACTOR * skeleton->length;
	m->proto = onnx__model_proto__unpack(&allocator, skeleton->length, skeleton->at);
	if (u.over)
		return ml_error(cx, ML_ERR_LIMIT, NULL,
				"the model's structure takes more than %zu MiB when unpacked",
				u.limit >> 20);
	if (!m->proto)
		return ml_error(cx, ML_ERR_FORMAT, NULL, "the bytes are not well-formed ONNX");
	return ML_OK;
}

static ml_status
check_imports(ml_context *cx, Onnx__OperatorSetIdProto *const *imports, size_t n)
{
	if (n > MOST_IMPORTS)
		return ml_error(cx, ML_ERR_LIMIT, NULL, "more than %d operator sets are imported",
				MOST_IMPORTS);
	for (size_t i = 0; i < n; i++) {
		const char *domain = ml_onnx_domain(imports[i]->domain);
		int64_t version = imports[i]->version;
		const char *shown = *domain ? ml_escaped(&cx->arena, domain) : "ai.onnx";
		if (version < 1 || version > INT32_MAX)
			return ml_error(cx, ML_ERR_FORMAT, NULL,
					"operator set '%s' has version %lld", shown,
					(long long)version);
		if (!*domain && (version < OLDEST_OPSET || version > NEWEST_OPSET)) {
			ml_error(cx, ML_ERR_UNSUPPORTED, NULL,
				 "operator set %lld is outside of the versions %d to %d we know",
				 (long long)version, OLDEST_OPSET, NEWEST_OPSET);
			ml_hint(cx, "onnx.version_converter can convert the model");
			return ML_ERR_UNSUPPORTED;
		}
		if (ml_onnx_opset(imports, i, domain))
			return ml_error(cx, ML_ERR_FORMAT, NULL,
					"operator set '%s' is imported twice", shown);
	}
	return ML_OK;
}

static ml_status
check_model(ml_context *cx, ml_onnx_model *m)
{
	const Onnx__ModelProto *p = m->proto;

	if (!p->graph)
		return ml_error(cx, ML_ERR_FORMAT, NULL, "the model has no graph");
	if (!p->n_opset_import)
		return ml_error(cx, ML_ERR_FORMAT, NULL, "the model imports no operator set");
	if (p->ir_version > ML_ONNX_NEWEST_IR)
		ml_warn(cx, NULL, "ONNX IR version %lld is newer than %d, the newest we know",
			(long long)p->ir_version, ML_ONNX_NEWEST_IR);
	ML_STEP(check_imports(cx, p->opset_import, p->n_opset_import));
	for (size_t i = 0; i < p->n_functions; i++)
		ML_STEP(check_imports(cx, p->functions[i]->opset_import,
				      p->functions[i]->n_opset_import));
	ML_STEP(ml_functions_index(cx, m));
	ML_STEP(ml_order_nodes(cx, m));
	return ml_functions_check(cx, m);
}

/* Where a model is read from: a path, or bytes and perhaps a directory. */
typedef struct source {
	const char *path, *dir;
	const void *bytes;
	size_t size;
} source;

static ml_status
open_directory(ml_context *cx, ml_onnx_model *m, const char *dir)
{
	m->directory = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (m->directory < 0)
		return ml_error(cx, ML_ERR_IO, NULL, "directory '%s' cannot be opened",
				ml_escaped(&cx->arena, dir));
	return ML_OK;
}

static ml_status
map_file(ml_context *cx, ml_onnx_model *m, const char *path)
{
	const char *slash = strrchr(path, '/'), *wrong;
	const char *dir = !slash ? "." : ml_strndup(&cx->arena, path, (size_t)(slash + 1 - path));
	int fd;

	ML_STEP(open_directory(cx, m, dir));
	wrong = ml_open_model(m->directory, slash ? slash + 1 : path, &fd);
	if (!wrong) {
		wrong = ml_mapping_fill(m->mapping, fd);
		close(fd);
	}
	if (wrong)
		return ml_error(cx, ML_ERR_IO, NULL, "%s", wrong);
	return ML_OK;
}

static ml_status
map_source(ml_context *cx, ml_onnx_model *m, const source *from)
{
	m->mapping = ml_mapping_new(m->memory);
	if (from->path)
		return map_file(cx, m, from->path);
	m->mapping->bytes = from->bytes;
	m->mapping->size = from->size;
	return from->dir ? open_directory(cx, m, from->dir) : ML_OK;
}

typedef struct read_job {
	ml_context *cx;
	ml_onnx_model *m;
	const source *from;
} read_job;

static ml_status
read_model(void *job)
{
	const read_job *j = job;
	ml_context *cx = j->cx;
	ml_onnx_model *m = j->m;

	ML_STEP(map_source(cx, m, j->from));
	if (!m->mapping->size)
		return ml_error(cx, ML_ERR_FORMAT, NULL, "the file is empty");
	ml_status status = ml_skeleton_build(cx, m->mapping->bytes, (size_t)m->mapping->size,
					     &onnx__model_proto__descriptor, &m->skeleton);
	if (status == ML_ERR_FORMAT)
		ml_hint(cx, "this is no ONNX file, or it was damaged or cut short");
	ML_STEP(status);
	ML_STEP(unpack(cx, m));
	ml_skeleton_free(&cx->memory, &m->skeleton);
	ML_STEP(check_model(cx, m));
	ml_arena_free(&m->scratch);
	return ML_OK;
}

static ml_status
load(ml_context *cx, const source *from, ml_onnx_model **out)
{
	ml_onnx_model *m = ml_resize(&cx->memory, NULL, 0, sizeof *m);

	*m = (ml_onnx_model){.memory = &cx->memory, .directory = -1};
	ml_arena_init(&m->arena, m->memory);
	ml_arena_init(&m->scratch, m->memory);
	ml_status status = ml_catch(cx, read_model, &(read_job){cx, m, from});
	*out = NULL;
	if (status == ML_OK)
		*out = m;
	else
		ml_onnx_close(m);
	if (status == ML_ERR_NOMEM)
		ml_error(cx, status, NULL, "out of memory while reading the model");
	return status;
}

ml_status
ml_onnx_open(ml_context *cx, const char *path, ml_onnx_model **out)
{
	source from = {.path = path};

	return load(cx, &from, out);
}

ml_status
ml_onnx_open_bytes(ml_context *cx, const void *bytes, size_t size, const char *dir,
		   ml_onnx_model **out)
{
	source from = {.bytes = bytes, .size = size, .dir = dir};

	return load(cx, &from, out);
}

void
ml_onnx_close(ml_onnx_model *m)
{
	if (!m)
		return;
	for (ml_onnx_external *e = m->external; e; e = e->next)
		ml_mapping_drop(e->mapping);
	ml_mapping_drop(m->mapping);
	ml_blob_drop(m->held[0]);
	ml_blob_drop(m->held[1]);
	if (m->directory >= 0)
		close(m->directory);
	ml_skeleton_free(m->memory, &m->skeleton);
	ml_arena_free(&m->scratch);
	ml_arena_free(&m->arena);
	ml_resize(m->memory, m, sizeof *m, 0);
}

const char *
ml_onnx_domain(const char *domain)
{
	return !domain || !strcmp(domain, "ai.onnx") ? "" : domain;
}

int64_t
ml_onnx_opset(Onnx__OperatorSetIdProto *const *imports, size_t n, const char *domain)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(ml_onnx_domain(imports[i]->domain), ml_onnx_domain(domain)))
			return imports[i]->version;
	return 0;
}

const ml_prov *
ml_onnx_prov(ml_arena *arena, const Onnx__NodeProto *node, int index, int64_t opset)
{
	ml_prov *p = ML_NEW(arena, ml_prov);

	*p = (ml_prov){.node = ml_strdup(arena, node->name ? node->name : ""),
		       .op = ml_strdup(arena, node->op_type ? node->op_type : ""),
		       .opset = (int)opset,
		       .index = index};
	return p;
}
