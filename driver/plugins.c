/* plugins.c -- passes, scores and losses of shared objects and of the application: loading,
 * checking that they were made for us, and finding them by name. */
#include "driver.h"
#include <dlfcn.h>
#include <string.h>

typedef const ml_plugin *plugin_info(void);

static ml_status
add_plugin(ml_plugins *p, ml_context *cx, ml_arena *arena, const ml_plugin *plugin,
	   const char *where)
{
	if (plugin->abi < 1 || plugin->abi > ML_PLUGIN_ABI) {
		ml_error(cx, ML_ERR_PLUGIN, NULL, "plugin '%s' has ABI version %u, mlopt has %d",
			 where, plugin->abi, ML_PLUGIN_ABI);
		ml_hint(cx, "compile it against this version's mlopt/pass.h");
		return ML_ERR_PLUGIN;
	}
	for (int i = 0; i < plugin->npasses; i++)
		ML_PUSH(arena, p->passes, plugin->passes[i]);
	if (plugin->abi < 2)
		return ML_OK;
	for (int i = 0; i < plugin->nscores; i++)
		ML_PUSH(arena, p->scores, &plugin->scores[i]);
	for (int i = 0; i < plugin->nlosses; i++)
		ML_PUSH(arena, p->losses, &plugin->losses[i]);
	return ML_OK;
}

static ml_status
open_plugin(ml_plugins *p, ml_context *cx, ml_arena *arena, const char *path)
{
	/* A name without a slash would be searched for in the system's folders. */
	const char *file = strchr(path, '/') ? path : ml_format(arena, "./%s", path);
	void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	plugin_info *info = NULL;

	if (!handle)
		return ml_error(cx, ML_ERR_PLUGIN, NULL, "cannot load plugin '%s': %s", path,
				dlerror());
	ML_PUSH(arena, p->handles, handle);
	*(void **)&info = dlsym(handle, "ml_plugin_info");
	const ml_plugin *plugin = info ? info() : NULL;
	if (!plugin)
		return ml_error(cx, ML_ERR_PLUGIN, NULL, "'%s' has no ml_plugin_info()", path);
	return add_plugin(p, cx, arena, plugin, path);
}

ml_status
ml_plugins_open(ml_plugins *p, const ml_options *o, ml_arena *arena)
{
	o->cx->stage = "plugins";
	for (int i = 0; i < o->load_pass_plugin.count; i++)
		ML_STEP(open_plugin(p, o->cx, arena, o->load_pass_plugin.at[i]));
	for (int i = 0; i < o->plugins.count; i++)
		ML_STEP(add_plugin(p, o->cx, arena, o->plugins.at[i], o->plugins.at[i]->name));
	return ML_OK;
}

void
ml_plugins_close(ml_plugins *p)
{
	for (int i = 0; i < p->handles.count; i++)
		dlclose(p->handles.at[i]);
}

/* ---- by name ---- */

static ml_status
refuse(const ml_options *o, const char *option, const char *name)
{
	ml_error(o->cx, ML_ERR_ARG, NULL, "%s: no plugin has '%s'", option,
		 ml_escaped(&o->cx->arena, name));
	ml_hint(o->cx, "load the plugin that has it: --load-pass-plugin=FILE.so");
	return ML_ERR_ARG;
}

ml_status
ml_choose_score(const ml_plugins *p, const ml_options *o, const ml_score **score)
{
	*score = NULL;
	for (int i = 0; o->prune_score && i < p->scores.count; i++)
		if (!strcmp(p->scores.at[i]->name, o->prune_score))
			*score = p->scores.at[i];
	return o->prune_score && !*score ? refuse(o, "prune-score", o->prune_score) : ML_OK;
}

ml_status
ml_choose_loss(const ml_plugins *p, const ml_options *o, const ml_loss **loss)
{
	*loss = NULL;
	for (int i = 0; o->distill_loss && i < p->losses.count; i++)
		if (!strcmp(p->losses.at[i]->name, o->distill_loss))
			*loss = p->losses.at[i];
	return o->distill_loss && !*loss ? refuse(o, "distill-loss", o->distill_loss) : ML_OK;
}

typedef struct addition {
	ml_options *o;
	const ml_plugin *plugin;
} addition;

static ml_status
add(void *job)
{
	const addition *a = job;

	ML_PUSH(&a->o->arena, a->o->plugins, a->plugin);
	return ML_OK;
}

ml_status
ml_options_plugin(ml_options *o, const ml_plugin *plugin)
{
	return ml_enter(o->cx, add, &(addition){o, plugin});
}
