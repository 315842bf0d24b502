/* value_map.h -- numbers for values, kept beside the graph: its fields belong to the passes. */
#ifndef ML_VALUE_MAP_H
#define ML_VALUE_MAP_H
#include "ir.h"

typedef struct ml_value_map {
	ml_arena *arena;
	const ml_value **key;
	int *number;
	size_t room; /* a power of two */
	int count;
} ml_value_map;

ml_value_map ml_value_map_new(ml_arena *);
/* Gives the next number, 0 at first; false when the value has one already. */
bool ml_value_map_add(ml_value_map *, const ml_value *);
int ml_value_number(const ml_value_map *, const ml_value *); /* -1 when it has none */
/* Every value of the module, in the order of its text. */
ml_value_map ml_number_values(ml_arena *, const ml_module *);
#endif
