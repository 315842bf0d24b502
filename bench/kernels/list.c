/* list.c -- which kernels are measured, at the sizes of the bench's models. */
#include "kernels.h"
#include "../../tools/limits.h"

#define GEMM(in, weight, out)                                                                      \
	"  in %x \"x\" : " in "[$m, $k]\n"                                                         \
	"  %w = const #0000000000000001 : " weight "[$k, $n]\n"                                    \
	"  %y = dot %x, %w {lhs_contract = [1], rhs_contract = [0]} : " out "[$m, $n]\n"           \
	"  out \"y\" = %y\n"
/* No two groups of four such weights fit into 16 bits together. */
#define GEMM_LARGE                                                                                 \
	"  in %x \"x\" : u8[$m, $k]\n"                                                             \
	"  %v = const #0000000000000001 : s8[$k, $n]\n"                                            \
	"  %l = const {127} : s8[]\n"                                                              \
	"  %w = max %v, %l : s8[$k, $n]\n"                                                         \
	"  %y = dot %x, %w {lhs_contract = [1], rhs_contract = [0]} : s32[$m, $n]\n"               \
	"  out \"y\" = %y\n"

#define GEMM_CASES                                                                                 \
	{1, 768, 768}, {4, 768, 768}, {16, 768, 768}, {64, 768, 768}, {128, 768, 768},             \
		{512, 768, 768}, {16, 384, 384}, {128, 384, 384}, {128, 1536, 384},                \
		{128, 384, 1536}, {512, 384, 1536}, {128, 3072, 768}, {128, 768, 3072}

/* The last three are GPT-2's last layer, whose weights no cache holds. */
#define GEMV_CASES                                                                                 \
	{1, 3072, 768}, {2, 3072, 768}, {4, 3072, 768}, {1, 768, 3072}, {1, 50257, 768},           \
		{2, 50257, 768}, {4, 50257, 768}

#define LINEAR                                                                                     \
	"  in %x \"x\" : f32[$m, $k]\n"                                                            \
	"  %w = const #0000000000000001 : f32[$k, $n]\n"                                           \
	"  %b = const #0000000000000002 : f32[$n]\n"                                               \
	"  %l = linear %x, %w, %b : f32[$m, $n]\n"                                                 \
	"  %y = gelu %l : f32[$m, $n]\n"                                                           \
	"  out \"y\" = %y\n"

/* s = stride, p = padding, g = groups, r = window, q = the output's width; images lie channels
 * last, as within a model. */
#define CONV_OF(in, weight, sum, epilogue, out)                                                    \
	"  in %x \"x\" : " in "[1, $w, $w, $c]\n"                                                  \
	"  %w = const #0000000000000001 : " weight "[$o, $i, $r, $r]\n"                            \
	"  %b = const #0000000000000002 : f32[$o, 1, 1]\n"                                         \
	"  %i = transpose %x {perm = [0, 3, 1, 2]} : " in "[1, $c, $w, $w]\n"                      \
	"  %c = conv %i, %w {stride = [$s, $s], dilation = [1, 1], low = [$p, $p], "               \
	"high = [$p, $p], groups = $g} : " sum "[1, $o, $q, $q]\n"                                 \
	"  %z = const {0} : f32[]\n" epilogue "  %t = transpose %y {perm = [0, 2, 3, 1]} : " out   \
	"[1, $q, $q, $o]\n"                                                                        \
	"  out \"y\" = %t\n"
#define CONV                                                                                       \
	CONV_OF("f32", "f32", "f32",                                                               \
		"  %e = add %c, %b : f32[1, $o, $q, $q]\n"                                         \
		"  %y = max %e, %z : f32[1, $o, $q, $q]\n",                                        \
		"f32")
/* What static quantization makes of a layer. */
#define CONV_INT8                                                                                  \
	CONV_OF("u8", "s8", "s32",                                                                 \
		"  %f = cast %c : f32[1, $o, $q, $q]\n"                                            \
		"  %m = const #0000000000000003 : f32[$o, 1, 1]\n"                                 \
		"  %d = mul %f, %m : f32[1, $o, $q, $q]\n"                                         \
		"  %e = add %d, %b : f32[1, $o, $q, $q]\n"                                         \
		"  %a = max %e, %z : f32[1, $o, $q, $q]\n"                                         \
		"  %s = const {1} : f32[]\n"                                                       \
		"  %n = const {0} : u8[]\n"                                                        \
		"  %y = quantize %a, %s, %n : u8[1, $o, $q, $q]\n",                                \
		"u8")

/*                 c   i    o    w    q    r  s  p  g */
#define CONV_CASES                                                                                 \
	{3, 3, 64, 224, 112, 7, 2, 3, 1}, {64, 64, 64, 56, 56, 1, 1, 0, 1},                        \
		{64, 64, 64, 56, 56, 3, 1, 1, 1}, {64, 64, 256, 56, 56, 1, 1, 0, 1},               \
		{128, 128, 128, 28, 28, 3, 1, 1, 1}, {256, 256, 512, 56, 28, 1, 2, 0, 1},          \
		{256, 256, 256, 14, 14, 3, 1, 1, 1}, {1024, 1024, 256, 14, 14, 1, 1, 0, 1},        \
		{512, 512, 512, 7, 7, 3, 1, 1, 1}

#define DEPTHWISE_CASES                                                                            \
	{32, 1, 32, 112, 112, 3, 1, 1, 32}, {96, 1, 96, 112, 56, 3, 2, 1, 96},                     \
		{192, 1, 192, 28, 28, 3, 1, 1, 192}, {576, 1, 576, 14, 14, 3, 1, 1, 576}
/* ResNeXt's and a few wide groups. */
#define GROUPED_CASES                                                                              \
	{128, 4, 128, 56, 56, 3, 1, 1, 32}, {256, 8, 256, 28, 28, 3, 1, 1, 32},                    \
		{512, 16, 512, 14, 14, 3, 1, 1, 32}, {1024, 32, 1024, 7, 7, 3, 1, 1, 32},          \
		{256, 8, 256, 56, 28, 3, 2, 1, 32}, {128, 64, 128, 28, 28, 3, 1, 1, 2}
#define CONV_SIZES "ciowqrspg"
#define CONV_MACS  "oqqirr"

/* clang-format off: a table */
const kernel kernels[] = {
	{"gemm-f32", "mnk", "mnk", LM_FP32, NULL, GEMM("f32", "f32", "f32"), {GEMM_CASES}},
	{"gemm-u8s8", "mnk", "mnk", LM_INT8, NULL, GEMM("u8", "s8", "s32"), {GEMM_CASES}},
	{"gemm-u8s8-exact", "mnk", "mnk", LM_INT8_EXACT, NULL, GEMM_LARGE, {GEMM_CASES}},
	{"gemv-f32", "mnk", "mnk", LM_FP32, NULL, GEMM("f32", "f32", "f32"), {GEMV_CASES}},
	{"gemv-u8s8", "mnk", "mnk", LM_INT8, NULL, GEMM("u8", "s8", "s32"), {GEMV_CASES}},
	{"linear-gelu-f32",
	 "mnk",
	 "mnk",
	 LM_FP32,
	 NULL,
	 LINEAR,
	 {{16, 1536, 384}, {128, 1536, 384}}},
	{"linear-gelu-int8",
	 "mnk",
	 "mnk",
	 LM_INT8,
	 "int8",
	 LINEAR,
	 {{16, 1536, 384}, {128, 1536, 384}}},
	{"linear-gelu-int4",
	 "mnk",
	 "mnk",
	 LM_INT8,
	 "int4",
	 LINEAR,
	 {{1, 768, 768}, {1, 3072, 768}, {1, 768, 3072}, {1, 12288, 3072}, {16, 1536, 384}, {128, 3072, 768}}},
	{"linear-bf16", "mnk", "mnk", LM_BF16, "bf16", LINEAR, {GEMM_CASES}},
	{"conv-f32", CONV_SIZES, CONV_MACS, LM_FP32, NULL, CONV, {CONV_CASES}},
	{"conv-int8", CONV_SIZES, CONV_MACS, LM_INT8, NULL, CONV_INT8, {CONV_CASES}},
	{"conv-bf16", CONV_SIZES, CONV_MACS, LM_BF16, "bf16", CONV, {CONV_CASES}},
	{"grouped-f32", CONV_SIZES, CONV_MACS, LM_FP32, NULL, CONV, {GROUPED_CASES}},
	{"grouped-int8", CONV_SIZES, CONV_MACS, LM_INT8, NULL, CONV_INT8, {GROUPED_CASES}},
	{"depthwise-f32", CONV_SIZES, CONV_MACS, LM_FP32, NULL, CONV, {DEPTHWISE_CASES}},
	{"depthwise-int8", CONV_SIZES, CONV_MACS, LM_INT8, NULL, CONV_INT8, {DEPTHWISE_CASES}},
	/* e = 2: the multiply-adds of scores and of their product with v */
	{"attention-f32",
	 "hstde",
	 "hstde",
	 LM_FP32,
	 NULL,
	 "  in %q \"q\" : f32[1, $h, $s, $d]\n"
	 "  in %k \"k\" : f32[1, $h, $t, $d]\n"
	 "  in %v \"v\" : f32[1, $h, $t, $d]\n"
	 "  in %m \"m\" : f32[1, 1, 1, $t]\n"
	 "  %y = attention %q, %k, %v, %m {scale = 0.125} : f32[1, $h, $s, $d]\n"
	 "  out \"y\" = %y\n",
	 {{12, 16, 16, 32, 2},
	  {12, 128, 128, 32, 2},
	  {12, 512, 512, 32, 2},
	  {12, 128, 128, 64, 2},
	  {12, 1, 65, 64, 2}}},
	{"layer_norm",
	 "mn",
	 "",
	 LM_READ,
	 NULL,
	 "  in %x \"x\" : f32[$m, $n]\n"
	 "  %w = const #0000000000000001 : f32[$n]\n"
	 "  %b = const #0000000000000002 : f32[$n]\n"
	 "  %y = layer_norm %x, %w, %b : f32[$m, $n]\n"
	 "  out \"y\" = %y\n",
	 {{1, 768}, {128, 384}, {128, 768}}},
	{"softmax",
	 "mn",
	 "",
	 LM_READ,
	 NULL,
	 "  in %x \"x\" : f32[$m, $n]\n"
	 "  %y = softmax %x : f32[$m, $n]\n"
	 "  out \"y\" = %y\n",
	 {{1536, 128}, {6144, 512}}},
	{"gelu",
	 "mn",
	 "",
	 LM_READ,
	 NULL,
	 "  in %x \"x\" : f32[$m, $n]\n"
	 "  %y = gelu %x : f32[$m, $n]\n"
	 "  out \"y\" = %y\n",
	 {{128, 1536}, {128, 3072}}},
	{"quantize_row",
	 "mn",
	 "",
	 LM_READ,
	 NULL,
	 "  in %x \"x\" : f32[$m, $n]\n"
	 "  %q, %s, %z = quantize_row %x : u8[$m, $n], f32[$m, 1], s32[$m, 1]\n"
	 "  out \"q\" = %q\n"
	 "  out \"s\" = %s\n"
	 "  out \"z\" = %z\n",
	 {{128, 384}, {128, 1536}}},
	{"residual_layer_norm_quantize",
	 "mn",
	 "",
	 LM_READ,
	 NULL,
	 "  in %x \"x\" : f32[$m, $n]\n"
	 "  in %r \"r\" : f32[$m, $n]\n"
	 "  %w = const #0000000000000001 : f32[$n]\n"
	 "  %b = const #0000000000000002 : f32[$n]\n"
	 "  %a = add %x, %r : f32[$m, $n]\n"
	 "  %y = layer_norm %a, %w, %b : f32[$m, $n]\n"
	 "  %q, %s, %z = quantize_row %y : u8[$m, $n], f32[$m, 1], s32[$m, 1]\n"
	 "  out \"y\" = %y\n"
	 "  out \"q\" = %q\n"
	 "  out \"s\" = %s\n"
	 "  out \"z\" = %z\n",
	 {{128, 384}, {128, 768}}},
};
/* clang-format on */
const size_t nkernels = sizeof kernels / sizeof *kernels;
