/* jit_model.c -- a plan becomes a model in this process. */
#include "../codegen/jit.h"
#include "../runtime/model.h"
#include "driver.h"

static void
free_jit(void *jit)
{
	ml_jit_free(jit);
}

ml_status
ml_jit_model(const ml_options *o, ml_plan *plan, ml_kept *kept, ml_model **model)
{
	ml_jit_options jo = {.making = ml_making(o)};
	ml_allocator allocator = {o->cx->memory.resize, o->cx->memory.user};
	ml_levels levels;
	ml_message why;
	ml_jit *jit;

	ML_STEP(ml_choose_levels(o, true, &levels));
	jo.target = levels.at[0];
	jo.making.cache.kept = kept;
	ML_STEP(ml_jit_new(o->cx, plan, &jo, &jit));
	ml_status status =
		mlrt_model_new(ml_jit_program(jit), &allocator, jit, free_jit, model, &why);
	if (status == ML_OK)
		return ML_OK;
	ml_jit_free(jit);
	return ml_error(o->cx, status, NULL, "%s", why.text);
}

int
ml_workers(const ml_options *o)
{
	return o->threads > 0 ? (int)o->threads : 0;
}

ml_cache_place
ml_cache_place_of(const ml_options *o)
{
	return (ml_cache_place){.folder = o->cache_dir, .bytes = o->cache_size << 20};
}

ml_object_making
ml_making(const ml_options *o)
{
	return (ml_object_making){.workers = ml_workers(o),
				  .save_temps = o->save_temps,
				  .cache = ml_cache_place_of(o)};
}

ml_status
ml_check_cache(const ml_options *o)
{
	const ml_cache_place place = ml_cache_place_of(o);
	ml_cache c;

	ML_STEP(ml_cache_open(o->cx, &place, &c));
	ml_cache_close(&c, &o->cx->memory);
	return ML_OK;
}
