/* plugins.c -- passes from shared objects: loading, and checking that they were made for us. */
#include "driver.h"
#include "mlopt/pass.h"
#include <dlfcn.h>
#include <string.h>

typedef const ml_plugin *plugin_info(void);

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
	if (plugin->abi != ML_PLUGIN_ABI) {
		ml_error(cx, ML_ERR_PLUGIN, NULL, "plugin '%s' has ABI version %u, mlopt has %d",
			 path, plugin->abi, ML_PLUGIN_ABI);
		ml_hint(cx, "compile it against this version's mlopt/pass.h");
		return ML_ERR_PLUGIN;
	}
	for (int i = 0; i < plugin->npasses; i++)
		ML_PUSH(arena, p->passes, plugin->passes[i]);
	return ML_OK;
}

ml_status
ml_plugins_open(ml_plugins *p, const ml_options *o, ml_arena *arena)
{
	o->cx->stage = "plugins";
	for (int i = 0; i < o->load_pass_plugin.count; i++)
		ML_STEP(open_plugin(p, o->cx, arena, o->load_pass_plugin.at[i]));
	return ML_OK;
}

void
ml_plugins_close(ml_plugins *p)
{
	for (int i = 0; i < p->handles.count; i++)
		dlclose(p->handles.at[i]);
}
