/* describe.c -- rows of the report about layers that quantization looks at. */
#include "describe.h"
#include <math.h>

static ml_table *
row_of(ml_pass_ctx *px, const char *layer, int *row)
{
	ml_table *t = ml_record_table(px->record, "layers", "Layers");

	*row = ml_table_row(t, layer);
	return t;
}

void
ml_describe_weights(ml_pass_ctx *px, const char *layer, const ml_value *weights,
		    const ml_blob *scales, ml_dtype dtype)
{
	int64_t n = (int64_t)scales->size / ml_dtype_bytes(dtype), size;
	double least = INFINITY, largest = 0;
	ml_text shape;
	int row;
	ml_table *t = row_of(px, layer, &row);

	ml_text_init(&shape, px->scratch);
	for (int d = 0; d < weights->type.rank; d++)
		if (ml_dim_is_int(weights->type.dim[d], &size))
			ml_put(&shape, "%s%lld", d ? " x " : "", (long long)size);
	for (int64_t i = 0; i < n; i++) {
		double s = ml_read_f64(dtype, scales->bytes, i);
		least = fmin(least, s);
		largest = fmax(largest, s);
	}
	ml_table_text(t, row, "shape", shape.at);
	ml_table_number(t, row, "scales", ML_UNIT_COUNT, (double)n);
	ml_table_number(t, row, "least", ML_UNIT_NONE, least);
	ml_table_number(t, row, "largest", ML_UNIT_NONE, largest);
}

void
ml_describe_number(ml_pass_ctx *px, const char *layer, const char *column, double x)
{
	int row;
	ml_table *t = row_of(px, layer, &row);

	ml_table_number(t, row, column, ML_UNIT_NONE, x);
}
