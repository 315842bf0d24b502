/* value_map.c -- an open-addressing hash table from values to numbers. */
#include "value_map.h"

ml_value_map
ml_value_map_new(ml_arena *arena)
{
	ml_value_map map = {.arena = arena, .room = 64};

	map.key = ML_NEW_ARRAY(arena, const ml_value *, map.room);
	map.number = ML_NEW_ARRAY(arena, int, map.room);
	return map;
}

static size_t
place(const ml_value_map *map, const ml_value *v)
{
	size_t at = (size_t)((uint64_t)(uintptr_t)v * 0x9e3779b97f4a7c15u >> 20) & (map->room - 1);

	while (map->key[at] && map->key[at] != v)
		at = (at + 1) & (map->room - 1);
	return at;
}

static void
grow(ml_value_map *map)
{
	ml_value_map old = *map;

	map->room *= 2;
	map->key = ML_NEW_ARRAY(map->arena, const ml_value *, map->room);
	map->number = ML_NEW_ARRAY(map->arena, int, map->room);
	for (size_t i = 0; i < old.room; i++)
		if (old.key[i]) {
			size_t at = place(map, old.key[i]);
			map->key[at] = old.key[i];
			map->number[at] = old.number[i];
		}
}

bool
ml_value_map_add(ml_value_map *map, const ml_value *v)
{
	if (2 * ((size_t)map->count + 1) > map->room)
		grow(map);
	size_t at = place(map, v);
	if (map->key[at])
		return false;
	map->key[at] = v;
	map->number[at] = map->count++;
	return true;
}

int
ml_value_number(const ml_value_map *map, const ml_value *v)
{
	size_t at = v ? place(map, v) : 0;

	return v && map->key[at] ? map->number[at] : -1;
}

static void
number_block(ml_value_map *map, const ml_block *b)
{
	for (int i = 0; i < b->nargs; i++)
		ml_value_map_add(map, b->arg[i]);
	for (const ml_node *n = b->first; n; n = n->next) {
		for (int i = 0; i < n->nout; i++)
			ml_value_map_add(map, &n->out[i]);
		for (int i = 0; i < n->nblocks; i++)
			number_block(map, n->body[i]);
	}
}

ml_value_map
ml_number_values(ml_arena *arena, const ml_module *m)
{
	ml_value_map map = ml_value_map_new(arena);

	number_block(&map, m->main);
	return map;
}
