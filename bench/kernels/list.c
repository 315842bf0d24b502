/* list.c -- which kernels are measured, at the sizes of the bench's models. */
#include "kernels.h"
#include "../../tools/limits.h"

#define GEMM(in, weight, out)                                                                      \
	"  in %x \"x\" : " in "[$m, $k]\n"                                                         \
	"  %w = const #0000000000000001 : " weight "[$k, $n]\n"                                    \
	"  %y = dot %x, %w {lhs_contract = [1], rhs_contract = [0]} : " out "[$m, $n]\n"           \
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

/* s = stride, p = padding, g = groups, r = window, q = the output's width */
#define CONV                                                                                       \
	"  in %x \"x\" : f32[1, $c, $w, $w]\n"                                                     \
	"  %w = const #0000000000000001 : f32[$o, $i, $r, $r]\n"                                   \
	"  %b = const #0000000000000002 : f32[$o]\n"                                               \
	"  %c = conv %x, %w, %b {stride = [$s, $s], dilation = [1, 1], low = [$p, $p], "           \
	"high = [$p, $p], groups = $g} : f32[1, $o, $q, $q]\n"                                     \
	"  %z = const {0} : f32[]\n"                                                               \
	"  %y = max %c, %z : f32[1, $o, $q, $q]\n"                                                 \
	"  out \"y\" = %y\n"

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
#define CONV_SIZES "ciowqrspg"
#define CONV_MACS  "oqqirr"

/* clang-format off: a table */
const kernel kernels[] = {
	{"gemm-f32", "mnk", "mnk", LM_FP32, NULL, GEMM("f32", "f32", "f32"), {GEMM_CASES}},
	{"gemm-u8s8", "mnk", "mnk", LM_INT8, NULL, GEMM("u8", "s8", "s32"), {GEMM_CASES}},
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
	 {{1, 768, 768}, {1, 3072, 768}, {1, 768, 3072}, {1, 12288, 3072}, {16, 1536, 384}}},
	{"linear-bf16", "mnk", "mnk", LM_BF16, "bf16", LINEAR, {GEMM_CASES}},
	{"conv-f32", CONV_SIZES, CONV_MACS, LM_FP32, NULL, CONV, {CONV_CASES}},
	{"conv-int8", CONV_SIZES, CONV_MACS, LM_INT8, "int8", CONV, {CONV_CASES}},
	{"conv-bf16", CONV_SIZES, CONV_MACS, LM_BF16, "bf16", CONV, {CONV_CASES}},
	{"depthwise-f32", CONV_SIZES, CONV_MACS, LM_FP32, NULL, CONV, {DEPTHWISE_CASES}},
	{"depthwise-int8", CONV_SIZES, CONV_MACS, LM_INT8, "int8", CONV, {DEPTHWISE_CASES}},
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
