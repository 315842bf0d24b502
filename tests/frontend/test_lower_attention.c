/* test_lower_attention.c -- Attention and RotaryEmbedding. */
#include "harness_onnx.h"

#define Y "out y\n"

#define QKV "opset 24\nin q f32[1,1,s,1]\nin k f32[1,1,t,1]\nin v f32[1,1,t,1]\n"
#define Q2  "q f32[1,1,2,1] 0 0\n"
#define KV2 "k f32[1,1,2,1] 1 2\nv f32[1,1,2,1] 10 20\n"

static void
test_plain(void **state)
{
	(void)state;
	expect(QKV "node Attention q k v -> y\n" Y, Q2 KV2, "y f32[1,1,2,1] 15 15");
	expect(QKV "node Attention q k v -> y scale=2.0\n" Y, "q f32[1,1,1,1] 1\n" KV2,
	       "y f32[1,1,1,1] 18.807971");
	expect("opset 24\nin q f32[1,1,2]\nin k f32[1,2,1]\nin v f32[1,2,1]\n"
	       "node Attention q k v -> y q_num_heads=2 kv_num_heads=1 scale=1.0\n" Y,
	       "q f32[1,1,2] 0 1\nk f32[1,2,1] 1 2\nv f32[1,2,1] 10 20",
	       "y f32[1,1,2] 15 17.310586");
	expect("opset 24\nin q f16[1,1,1,1]\nin k f16[1,1,1,1]\nin v f16[1,1,1,1]\n"
	       "node Attention q k v -> y\n" Y,
	       "q f16[1,1,1,1] 1\nk f16[1,1,1,1] 1\nv f16[1,1,1,1] 7", "y f16[1,1,1,1] 7");
}

static void
test_masks(void **state)
{
	(void)state;
	expect(QKV "node Attention q k v -> y is_causal=1\n" Y, Q2 KV2, "y f32[1,1,2,1] 10 15");
	expect(QKV "in m bool[2,2]\nnode Attention q k v m -> y\n" Y, Q2 KV2 "m bool[2,2] 1 0 0 0",
	       "y f32[1,1,2,1] 10 0");
	/* a mask shorter than the keys hides the rest */
	expect(QKV "in m f32[1,1]\nnode Attention q k v m -> y\n" Y, Q2 KV2 "m f32[1,1] 0",
	       "y f32[1,1,2,1] 10 10");
	expect(QKV "in m bool[2,2]\nnode Attention q k v m -> y is_causal=1\n" Y,
	       Q2 KV2 "m bool[2,2] 1 1 0 1", "y f32[1,1,2,1] 10 20");
	expect(QKV "in n s64[1]\nnode Attention q k v - - - n -> y\n" Y, Q2 KV2 "n s64[1] 1",
	       "y f32[1,1,2,1] 10 10");
	expect("opset 25\nin q f32[1,1,s,1]\nin k f32[1,1,t,1]\nin v f32[1,1,t,1]\n"
	       "node Attention q k v -> y left_window_size=0 right_window_size=0\n" Y,
	       Q2 KV2, "y f32[1,1,2,1] 10 20");
}

static void
test_cache_and_scores(void **state)
{
	(void)state;
	expect("opset 24\nin q f32[1,1,1,1]\nin k f32[1,1,1,1]\nin v f32[1,1,1,1]\n"
	       "in p f32[1,1,n,1]\nin r f32[1,1,n,1]\n"
	       "node Attention q k v - p r -> y a b is_causal=1\n" Y "out a\nout b\n",
	       "q f32[1,1,1,1] 0\nk f32[1,1,1,1] 5\nv f32[1,1,1,1] 20\np f32[1,1,1,1] 4\n"
	       "r f32[1,1,1,1] 10",
	       "y f32[1,1,1,1] 15\na f32[1,1,2,1] 4 5\nb f32[1,1,2,1] 10 20");
	expect(QKV
	       "node Attention q k v -> y - - s softcap=1.0 qk_matmul_output_mode=3 is_causal=1\n" Y
	       "out s\n",
	       "q f32[1,1,2,1] 100 0\n" KV2, "y f32[1,1,2,1] 10 15\ns f32[1,1,2,2] 1 0 0.5 0.5");
	expect(QKV "node Attention q k v -> y - - s\n" Y "out s\n", "q f32[1,1,1,1] 1\n" KV2,
	       "y f32[1,1,1,1] 17.310586\ns f32[1,1,1,2] 1 2");
	expect_error(QKV "node Attention q k v - q -> y\n" Y, ML_ERR_FORMAT, "come together");
	expect_error("opset 24\nin q f32[1,1,3]\nnode Attention q q q -> y q_num_heads=2 "
		     "kv_num_heads=1\n" Y,
		     ML_ERR_SHAPE, "2 heads");
}

static void
test_rotary(void **state)
{
	(void)state;
#define R "opset 23\nin x f32[1,1,1,2]\nin c f32[2,1]\nin s f32[2,1]\nin p s64[1,1]\n"
	expect(R "node RotaryEmbedding x c s p -> y\n" Y,
	       "x f32[1,1,1,2] 3 4\nc f32[2,1] 1 0\ns f32[2,1] 0 1\np s64[1,1] 1",
	       "y f32[1,1,1,2] -4 3");
	expect("opset 23\nin x f32[1,1,4]\nin c f32[1,1,1]\nin s f32[1,1,1]\n"
	       "node RotaryEmbedding x c s -> y num_heads=1 rotary_embedding_dim=2 "
	       "interleaved=1\n" Y,
	       "x f32[1,1,4] 1 2 3 4\nc f32[1,1,1] 0\ns f32[1,1,1] 1", "y f32[1,1,4] -2 1 3 4");
}

/* Queries of 0 give means of the values that they see. */
static void
test_group_query(void **state)
{
#define GROUP                                                                                      \
	"opset com.microsoft 1\nopset 17\nin q f32[1,s,2]\nin k f32[1,s,1]\nin v f32[1,s,1]\n"     \
	"in n s32[1]\nin t s32[]\n"
#define GROUP_NODE "node GroupQueryAttention "
#define TWO_HEADS  " domain=com.microsoft num_heads=2 kv_num_heads=1"
#define WORDS                                                                                      \
	"q f32[1,2,2] 0 0 0 0\nk f32[1,2,1] 1 2\n"                                                 \
	"v f32[1,2,1] 10 20\nn s32[1] 1\nt s32[] 2"
	(void)state;
	expect(GROUP GROUP_NODE "q k v - - n t -> y" TWO_HEADS "\n" Y, WORDS,
	       "y f32[1,2,2] 10 10 15 15");
	expect(GROUP GROUP_NODE "q k v - - n t -> y" TWO_HEADS " local_window_size=1\n" Y, WORDS,
	       "y f32[1,2,2] 10 10 20 20");
	expect(GROUP "in a f32[1,1,p,1]\nin b f32[1,1,p,1]\n" GROUP_NODE
		     "q k v a b n t -> y d e" TWO_HEADS "\n" Y "out d\nout e\n",
	       "q f32[1,1,2] 0 0\nk f32[1,1,1] 5\nv f32[1,1,1] 20\nn s32[1] 1\nt s32[] 2\n"
	       "a f32[1,1,1,1] 4\nb f32[1,1,1,1] 10",
	       "y f32[1,1,2] 15 15\nd f32[1,1,2,1] 4 5\ne f32[1,1,2,1] 10 20");
	expect("opset com.microsoft 1\nopset 17\nin x f32[1,2,4]\nin n s32[1]\nin t "
	       "s32[]\n" GROUP_NODE "x - - - - n t -> y" TWO_HEADS "\n" Y,
	       "x f32[1,2,4] 0 0 1 10 0 0 2 20\nn s32[1] 1\nt s32[] 2", "y f32[1,2,2] 10 10 15 15");
	expect_error(GROUP GROUP_NODE "q k v - - n t -> y" TWO_HEADS " softcap=3.0\n" Y,
		     ML_ERR_UNSUPPORTED, "softcap");
	expect_error(GROUP GROUP_NODE "q k - - - n t -> y" TWO_HEADS "\n" Y, ML_ERR_FORMAT,
		     "key and value come together or not");
	expect_error(GROUP GROUP_NODE "q k v - - n -> y" TWO_HEADS "\n" Y, ML_ERR_FORMAT,
		     "total_sequence_length are needed");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_plain),  TEST(test_masks),       TEST(test_cache_and_scores),
		TEST(test_rotary), TEST(test_group_query),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
