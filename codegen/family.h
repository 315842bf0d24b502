/* family.h -- what each kernel family provides; kernel.c has the table. */
#ifndef ML_FAMILY_H
#define ML_FAMILY_H
#include "kernel.h"

ml_status ml_rows_grid(ml_kernel *, ml_grid *);
ml_status ml_rows_emit(ml_emit *, ml_kernel *, const char *name);
ml_status ml_contract_grid(ml_kernel *, ml_grid *);
ml_status ml_contract_emit(ml_emit *, ml_kernel *, const char *name);
ml_status ml_u4_grid(ml_kernel *, ml_grid *);
ml_status ml_u4_emit(ml_emit *, ml_kernel *, const char *name);
ml_status ml_pack_grid(ml_kernel *, ml_grid *);
ml_status ml_pack_emit(ml_emit *, ml_kernel *, const char *name);
ml_status ml_attention_grid(ml_kernel *, ml_grid *);
ml_status ml_attention_emit(ml_emit *, ml_kernel *, const char *name);
bool ml_attention_is_int8(const ml_kernel *); /* attention_int8.c */
ml_status ml_attention_int8_grid(ml_kernel *, ml_grid *);
ml_status ml_attention_int8_emit(ml_emit *, ml_kernel *, const char *name);
ml_status ml_scatter_grid(ml_kernel *, ml_grid *);
ml_status ml_scatter_emit(ml_emit *, ml_kernel *, const char *name);
ml_status ml_scan_grid(ml_kernel *, ml_grid *);
ml_status ml_scan_emit(ml_emit *, ml_kernel *, const char *name);
#endif
