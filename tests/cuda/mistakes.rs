//! Mistakes in kernels and the barriers that there are, each with a test that must fail: see `mutations.rs`.

/// How a mistake stands beside what is right.
#[derive(Clone, Copy)]
pub enum Change {
    /// This expression in place of the right one.
    To(&'static str),
    /// The statement does not run.
    Gone,
}

use Change::{Gone, To};

/// What becomes of the `nth` (from 0) place of a text in a file, and the test that must fail.
pub struct Mistake(pub &'static str, pub usize, pub &'static str, pub Change, pub &'static str);

const TILES: &str = "products::products_of_whole_numbers_are_exact_in_every_tile";
const PARTS: &str = "products::bias_and_residual_are_added_once_to_several_parts";
const LINEAR: &str = "ops::products::linear_with_bias_and_residual";
const HALVES: &str = "halves::products_and_sums_of_small_whole_numbers_are_exact";
const HOPPER: &str = "halves::products_of_many_tiles_and_slices_are_exact_on_hopper";
const ATTENTION: &str = "ops::attention::forest_attention";
const WINDOW_BITS: &str =
    "ops::attention::a_row_through_a_window_has_the_same_bits_in_a_tile_of_many_rows_as_in_one_of_few";
const LEAF_BITS: &str = "ops::attention::a_short_leaf_has_the_same_bits_beside_long_ones";
const ATTENTION_BF16: &str = "attention_bf16::products_in_bf16_are_as_near_as_those_of_a_plain_loop";
const FAR_APART: &str = "attention_bf16::scores_far_apart_are_as_near_as_a_plain_loop";
const WIDTHS: &str = "attention_backward::gradients_in_bf16_of_heads_of_any_number_and_width_are_as_near_as_those_of_a_plain_loop";
const STEMS: &str =
    "attention_backward::gradients_in_bf16_of_stems_and_long_leaves_are_as_near_as_those_of_a_plain_loop";
const STORED: &str = "attention_stored::inputs_in_bf16_give_the_bits_of_those_values_in_f32";
const ANYWHERE: &str = "attention_stored::inputs_in_bf16_may_begin_anywhere";
const ITEMS: &str = "attention_stored::rows_of_many_items_keep_to_their_own_queries_and_leaves_on_hopper";
const RANGES: &str = "attention_sm90::ranges_of_any_length_are_as_near_as_those_of_a_plain_loop";
const KINDS: &str = "attention_sm90::forests_of_every_kind_are_as_near_as_a_plain_loop";
const ADAPTED: &str = "adapters::adapted_layers_of_whole_numbers_are_exact";
const ADDED: &str = "adapters::what_an_adapter_adds_is_as_near_as_in_f32";
const GATED: &str = "activations::a_gated_layer_has_the_bits_of_two_products_and_their_gate";
const SCALE: &str = "ops::elements::scale";
const RMS_NORM: &str = "ops::rows::rms_norm";
const SUMS: &str = "ops::elements::sums_over_rows";
const REDUCE: &str = "ops::elements::sums_of_everything";
const TOP_K: &str = "ops::search::top_k_is_that_of_the_cpu";
const NAN: &str = "ops::search::nan_is_never_found_and_infinities_are_ordered";
const NORMS: &str = "ops::optimiser::norms_and_their_factors_are_those_of_the_host";
const UPDATES: &str = "ops::optimiser::updates_of_many_tensors_together_have_the_bits_of_each_alone";
const GRU: &str = "ops::recurrence::gru";

const SM90: &str = "matmul_bf16_sm90.cu";
const PRODUCT: &str = "common/bf16_product.cuh";
const LOW_RANK: &str = "low_rank.cu";
const ROWS: &str = "common/attention_rows.cuh";
const TENSOR_CORES: &str = "forest_attention_bf16.cu";
const BACKWARD: &str = "forest_attention_bf16_backward.cu";
const KEYS: &str = "forest_attention_bf16_keys.cu";
const HOPPER_ATTENTION: &str = "forest_attention_bf16_sm90.cu";
const ITEMS_OF: &str = "common/attention_items.cuh";

pub const MISTAKES: &[Mistake] = &[
    Mistake("matmul.cu", 0, "inside > 0 ? 16 : 0", To("16"), TILES),
    Mistake("matmul.cu", 0, "j < inside ? 4 : 0", To("4"), TILES),
    Mistake("matmul.cu", 0, "(ALONG ? left : rows)", To("left"), TILES),
    Mistake("matmul.cu", 0, "(ALONG ? rows : left - row)", To("rows"), TILES),
    Mistake("matmul.cu", 0, "from += ALONG ? SLICE : SLICE * pitch;", Gone, TILES),
    Mistake("matmul.cu", 0, "place % LANES * CHUNK", To("place % CHUNK * LANES"), TILES),
    Mistake("matmul.cu", 0, "(chunk ^ swap(row))", To("chunk"), TILES),
    Mistake("matmul.cu", 0, "cp_async_wait<STAGES - 2>();", Gone, TILES),
    Mistake("matmul.cu", 0, "cp_async_wait<STAGES - 2>()", To("cp_async_wait<STAGES - 1>()"), TILES),
    Mistake("matmul.cu", 0, "cp_async_commit();", Gone, TILES),
    Mistake("matmul.cu", 0, "stage == 0 ? STAGES - 1 : stage - 1", To("stage"), TILES),
    Mistake("matmul.cu", 0, "row >= m", To("false"), TILES),
    Mistake("matmul.cu", 0, "column >= to.n", To("false"), TILES),
    Mistake("matmul.cu", 1, "j * ACROSS + e < columns", To("true"), TILES),
    Mistake("matmul.cu", 0, "first ? mode & ACCUMULATE : ACCUMULATE", To("mode & ACCUMULATE"), PARTS),
    Mistake("matmul.cu", 0, "left > 0 ? 0 : mode", To("mode"), PARTS),
    Mistake("matmul.cu", 0, "min(BAND, down - band * BAND)", To("BAND"), TILES),
    Mistake("matmul.cu", 0, "unforeseen(blockIdx.y) * m * n", To("0"), TILES),
    Mistake("matmul.cu", 0, "blockIdx.y * PART", To("0"), TILES),
    Mistake("matmul.cu", 0, "part < parts", To("part + 1 < parts"), TILES),
    Mistake("matmul.cu", 0, "bias[i % n]", To("bias[i / n]"), PARTS),
    Mistake("matmul.cu", 0, "to.mode & BIAS", To("0"), LINEAR),
    Mistake("matmul.cu", 0, "to.residual + first", To("to.residual"), LINEAR),
    Mistake("forest_attention.cu", 0, "row < count", To("true"), ATTENTION),
    Mistake("forest_attention.cu", 0, "place < length[1]", To("place < length[1] - 1"), ATTENTION),
    Mistake("forest_attention.cu", 0, "head / shape.group", To("head"), ATTENTION),
    Mistake("forest_attention.cu", 0, "start + i * SHARE + share - own.w < own.x", To("true"), WINDOW_BITS),
    Mistake("forest_attention.cu", 1, "start + key - own.w < own.x", To("true"), ATTENTION),
    Mistake("forest_attention.cu", 0, "start + key - own.w < own.x", To("start + key < own.x"), ATTENTION),
    Mistake("forest_attention.cu", 0, "own.y + i < own.z", To("true"), LEAF_BITS),
    Mistake("forest_attention.cu", 0, "key >= own.z", To("false"), ATTENTION),
    Mistake("forest_attention.cu", 0, "shuffle_xor(value, 1)", To("shuffle_xor(value, 4)"), ATTENTION),
    Mistake("forest_attention.cu", 0, "total += weight;", Gone, ATTENTION),
    Mistake("forest_attention.cu", 0, "next.z <= key", To("next.w <= key"), ATTENTION),
    Mistake("forest_attention.cu", 0, "other < count", To("true"), ATTENTION),
    Mistake("forest_attention.cu", 0, "row >= present", To("false"), ATTENTION),
    Mistake("forest_attention.cu", 0, "if (share == 0) lse", To("if (false) lse"), ATTENTION),
    Mistake(ROWS, 0, "highest[r] > most[r]", To("highest[r] > most[r] + 300.0f"), FAR_APART),
    Mistake(ROWS, 0, "total[r] *= factor;", Gone, FAR_APART),
    Mistake(ROWS, 0, "raised[0] || raised[1]", To("raised[0]"), FAR_APART),
    Mistake(ROWS, 0, "lane & mask", To("!(lane & mask)"), STORED),
    Mistake(ROWS, 0, "there && d < hd", To("there"), STORED),
    Mistake(TENSOR_CORES, 0, "row < left && unit * 8 < stored", To("row < left"), STORED),
    Mistake(TENSOR_CORES, 0, "hd % 4 == 0 && (size_t)q % (4 * sizeof(T)) == 0", To("true"), ANYWHERE),
    Mistake(BACKWARD, 0, "cp_async_commit();", Gone, STEMS),
    Mistake(BACKWARD, 1, "cp_async_commit();", Gone, STEMS),
    Mistake(BACKWARD, 2, "cp_async_commit();", Gone, STEMS),
    Mistake(BACKWARD, 3, "cp_async_commit();", Gone, STEMS),
    Mistake(BACKWARD, 0, "cp_async_wait<1>();", Gone, STEMS),
    Mistake(BACKWARD, 1, "cp_async_wait<1>();", Gone, STEMS),
    Mistake(BACKWARD, 0, "cp_async_wait<Of::STAGES - 1>();", Gone, STEMS),
    Mistake(BACKWARD, 1, "cp_async_wait<Of::STAGES - 1>();", Gone, STEMS),
    Mistake(BACKWARD, 0, "row < there", To("row + 1 < there"), STEMS),
    Mistake(BACKWARD, 0, "start < count", To("start + Of::COLUMNS < count"), STEMS),
    Mistake(BACKWARD, 0, "warp_sees > start", To("warp_sees > start + 8"), STEMS),
    Mistake(BACKWARD, 0, "start + j * 8 + lane % 4 * 2 + i % 2 < own[i / 2].x", To("true"), STEMS),
    Mistake(BACKWARD, 0, "own[r].y + leaf < own[r].z", To("true"), STEMS),
    Mistake(BACKWARD, 0, "row >= rows", To("false"), STEMS),
    Mistake(BACKWARD, 0, "d < hd", To("true"), STEMS),
    Mistake(BACKWARD, 0, "d + 1 < hd", To("true"), WIDTHS),
    Mistake(BACKWARD, 0, "blockIdx.z * BACK_TILE", To("0"), WIDTHS),
    Mistake(BACKWARD, 0, "start < columns", To("start + Of::COLUMNS < columns"), STEMS),
    Mistake(BACKWARD, 0, "start + i < columns", To("true"), STEMS),
    Mistake(BACKWARD, 0, "1 + warp / 2", To("1"), STEMS),
    Mistake(BACKWARD, 0, "places_of(start)[threadIdx.x] = place;", Gone, STEMS),
    Mistake(BACKWARD, 0, "ballot(any != 0) != 0", To("any != 0"), STEMS),
    Mistake(BACKWARD, 0, "(bits[j][i % 2] >> (i / 2 * 8) & 1) != 0", To("true"), STEMS),
    Mistake(BACKWARD, 0, "blockIdx.z * Of::SUMS", To("0"), WIDTHS),
    Mistake(KEYS, 0, "part < of_key.y", To("part + 1 < of_key.y"), STEMS),
    Mistake(KEYS, 0, "of_key.z < of_key.w", To("false"), STEMS),
    Mistake(KEYS, 0, "at < of_key.w", To("at + 1 < of_key.w"), STEMS),
    Mistake(KEYS, 0, "sum = lea::warp_sum(sum);", Gone, STEMS),
    Mistake(KEYS, 0, "d < hd", To("true"), STEMS),
    Mistake(KEYS, 1, "d < hd", To("true"), WIDTHS),
    Mistake(KEYS, 0, "d + 1 < hd", To("true"), WIDTHS),
    Mistake(KEYS, 2, "d < hd", To("true"), STEMS),
    Mistake(KEYS, 1, "d + 1 < hd", To("true"), WIDTHS),
    Mistake(KEYS, 0, "hd % 2 == 0", To("true"), WIDTHS),
    Mistake(KEYS, 0, "i >= warps", To("false"), WIDTHS),
    Mistake(KEYS, 0, "key % kv_heads", To("0"), WIDTHS),
    Mistake(SM90, 0, "mbarrier_wait(empty + place.stage, place.parity ^ 1);", Gone, HOPPER),
    Mistake(SM90, 0, "place.parity ^ 1", To("place.parity"), HOPPER),
    Mistake(SM90, 0, "mbarrier_wait(full + place.stage, place.parity);", Gone, HOPPER),
    Mistake(SM90, 0, "mbarrier_arrive_expect_tx(full, STAGE);", Gone, HOPPER),
    Mistake(SM90, 0, "mbarrier_arrive_expect_tx(full, STAGE)", To("mbarrier_arrive(full)"), HOPPER),
    Mistake(SM90, 0, "WARPS * BLOCKS", To("WARPS / 2 * BLOCKS"), HOPPER),
    Mistake(SM90, 0, "cluster_sync()", To("__syncthreads()"), HOPPER),
    Mistake(SM90, 0, "cluster_sync();", Gone, HOPPER),
    Mistake(SM90, 0, "rank * (TILE_N / BLOCKS)", To("0"), HOPPER),
    Mistake(SM90, 0, "rank * (B / BLOCKS)", To("0"), HOPPER),
    Mistake(
        SM90,
        0,
        "tma_load_2d_pair(to, b, column, row, full)",
        To("tma_load_2d(to, b, column, row, full)"),
        HOPPER,
    ),
    Mistake(SM90, 0, "lane < BLOCKS", To("lane < 1"), HOPPER),
    Mistake(SM90, 0, "fence_mbarrier_init();", Gone, HOPPER),
    Mistake(SM90, 0, "release(read);", Gone, HOPPER),
    Mistake(SM90, 1, "release(read);", Gone, HOPPER),
    Mistake(SM90, 0, "lane == 0", To("true"), HOPPER),
    Mistake(SM90, 0, "wgmma_fence();", Gone, HOPPER),
    Mistake(SM90, 0, "wgmma_commit();", Gone, HOPPER),
    Mistake(SM90, 0, "wgmma_wait<1>(sums);", Gone, HOPPER),
    Mistake(SM90, 0, "wgmma_wait<0>(sums);", Gone, HOPPER),
    Mistake(SM90, 0, "setmaxnreg_dec<LOADING>();", Gone, HOPPER),
    Mistake(SM90, 0, "consumer * 64 * SWIZZLED_ROW", To("0"), HOPPER),
    Mistake(SM90, 0, "TRANSPOSED ? 32 : 16 * SWIZZLED_ROW", To("32"), HOPPER),
    Mistake(SM90, 0, "accumulate || step > 0", To("step > 0"), HOPPER),
    Mistake(SM90, 0, "row + half * 8 >= m", To("false"), HOPPER),
    Mistake(SM90, 0, "slice >= of_first", To("slice > of_first"), ADAPTED),
    Mistake(SM90, 0, "second ? a2 : a", To("a"), ADAPTED),
    Mistake(SM90, 0, "second || (GATED && rank > 0) ? b2 : b", To("b"), ADAPTED),
    Mistake(SM90, 0, "GATED && rank > 0", To("false"), GATED),
    Mistake(SM90, 0, "sums[at + TILE_N / 4]", To("sums[at]"), GATED),
    Mistake(SM90, 0, "second ? slice - of_first : slice", To("slice"), ADAPTED),
    Mistake(SM90, 0, "(int)((k2 + SLICE - 1) / SLICE)", To("(int)(k2 / SLICE)"), ADAPTED),
    Mistake(PRODUCT, 0, "more && to_load <= 0", To("more && to_load < 0"), ADAPTED),
    Mistake(PRODUCT, 0, "(int)((k + SLICE - 1) / SLICE * SLICE + k2)", To("(int)(k + k2)"), ADAPTED),
    Mistake(
        LOW_RANK,
        0,
        "left > 0 ? load4(from) : make_float4(0.0f, 0.0f, 0.0f, 0.0f)",
        To("load4(from)"),
        ADAPTED,
    ),
    Mistake(LOW_RANK, 0, "left > 1", To("left > 0"), ADAPTED),
    Mistake(LOW_RANK, 0, "reinterpret_cast<size_t>(x) / 4 | row", To("0"), ADAPTED),
    Mistake(LOW_RANK, 0, "min(first_row + i, m - 1)", To("first_row + i"), ADAPTED),
    Mistake(LOW_RANK, 0, "warp % runs * RANKS", To("0"), ADAPTED),
    Mistake(LOW_RANK, 0, "upper ? sums[i] : sums[i + HALF]", To("upper ? sums[i + HALF] : sums[i]"), ADAPTED),
    Mistake(LOW_RANK, 1, "row >= m", To("false"), ADAPTED),
    Mistake(LOW_RANK, 0, "column < r", To("true"), ADAPTED),
    Mistake(LOW_RANK, 0, "PIECES * r + lane % RANKS < p", To("false"), ADAPTED),
    Mistake(LOW_RANK, 0, "first_row + i < m", To("true"), ADAPTED),
    Mistake(LOW_RANK, 0, "at >= n * p", To("at + 1 >= n * p"), ADAPTED),
    Mistake(LOW_RANK, 0, "0x201100u", To("0x001100u"), ADDED),
    Mistake(LOW_RANK, 0, "0x021010u", To("0x021000u"), ADDED),
    Mistake(LOW_RANK, 0, "i < piece", To("i + 1 < piece"), ADDED),
    Mistake(LOW_RANK, 0, "other < WARPS", To("other < WARPS - 1"), ADAPTED),
    Mistake(LOW_RANK, 0, "first + rank >= r", To("false"), ADAPTED),
    Mistake(LOW_RANK, 0, "first_column + along >= w", To("false"), ADAPTED),
    Mistake(LOW_RANK, 0, "blockIdx.y * r * w", To("0"), ADAPTED),
    Mistake("common/epilogue.cuh", 0, "j * 8 + 1 < left", To("true"), HOPPER),
    Mistake("common/epilogue.cuh", 1, "j * 8 + 1 < left", To("true"), HOPPER),
    Mistake("common/epilogue.cuh", 2, "j * 8 < left", To("true"), HOPPER),
    Mistake("common/epilogue.cuh", 0, "mode & GATE", To("0"), GATED),
    Mistake("common/epilogue.cuh", 1, "mode & HALF", To("0"), GATED),
    Mistake("common/epilogue.cuh", 0, "gates[j].y", To("gates[j].x"), GATED),
    Mistake(HOPPER_ATTENTION, 0, "mbarrier_init(full + i, 1)", To("mbarrier_init(full + i, 2)"), RANGES),
    Mistake(
        HOPPER_ATTENTION,
        0,
        "mbarrier_init(read + i, WARPS_THAT_READ)",
        To("mbarrier_init(read + i, 1)"),
        KINDS,
    ),
    Mistake(HOPPER_ATTENTION, 0, "fence_mbarrier_init();", Gone, RANGES),
    Mistake(HOPPER_ATTENTION, 0, "mbarrier_wait(ring.read + ring.at, ring.turn ^ 1);", Gone, KINDS),
    Mistake(HOPPER_ATTENTION, 0, "ring.turn ^ 1", To("ring.turn"), RANGES),
    Mistake(HOPPER_ATTENTION, 0, "turn ^= at == 0;", Gone, KINDS),
    Mistake(HOPPER_ATTENTION, 0, "units * UNIT * WIDTH", To("UNIT * WIDTH"), RANGES),
    Mistake(HOPPER_ATTENTION, 0, "mbarrier_arrive(read + at);", Gone, KINDS),
    Mistake(HOPPER_ATTENTION, 0, "ring.wait();", Gone, RANGES),
    Mistake(HOPPER_ATTENTION, 1, "ring.wait();", Gone, RANGES),
    Mistake(HOPPER_ATTENTION, 0, "wgmma_fence();", Gone, RANGES),
    Mistake(HOPPER_ATTENTION, 1, "wgmma_fence();", Gone, RANGES),
    Mistake(HOPPER_ATTENTION, 0, "wgmma_commit();", Gone, RANGES),
    Mistake(HOPPER_ATTENTION, 1, "wgmma_commit();", Gone, RANGES),
    Mistake(HOPPER_ATTENTION, 0, "wgmma_wait<0>(flat(scores));", Gone, RANGES),
    Mistake(HOPPER_ATTENTION, 0, "wgmma_wait<0>(flat(rows.out));", Gone, RANGES),
    Mistake(HOPPER_ATTENTION, 0, "step > 0", To("true"), RANGES),
    Mistake(HOPPER_ATTENTION, 0, "step / 4 * PANEL", To("0"), RANGES),
    Mistake(
        HOPPER_ATTENTION,
        0,
        "item.keys.key(first + unit)",
        To("item.keys.key(0) + (first + unit) * UNIT"),
        RANGES,
    ),
    Mistake(HOPPER_ATTENTION, 0, "item.keys.gapless(start)", To("true"), RANGES),
    Mistake(HOPPER_ATTENTION, 0, "start + CHUNK <= group.least", To("true"), KINDS),
    Mistake(HOPPER_ATTENTION, 0, "item.keys.holds(start + column)", To("true"), RANGES),
    Mistake(HOPPER_ATTENTION, 0, "start + column < group.end[r]", To("true"), KINDS),
    Mistake(HOPPER_ATTENTION, 1, "start + column < group.end[r]", To("true"), RANGES),
    Mistake(ITEMS_OF, 0, "number % parts * TILE", To("0"), KINDS),
    Mistake(HOPPER_ATTENTION, 0, "mbarrier_init(full, 1 + WARP)", To("mbarrier_init(full, 1)"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "mbarrier_init(read, READING)", To("mbarrier_init(read, 1)"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "mbarrier_wait(own.read, own.turn ^ 1);", Gone, ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "mbarrier_wait(own.full, own.turn);", Gone, ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "mbarrier_arrive(own.read);", Gone, ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "rows * heads * WIDTH", To("TILE * WIDTH"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "TILE / heads", To("TILE"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "panel * QUERY_PANEL", To("0"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "step / 4 * QUERY_PANEL", To("0"), ITEMS),
    Mistake(
        HOPPER_ATTENTION,
        0,
        "(2 * (step % 4) + lane / 16) ^ (row % 8)",
        To("2 * (step % 4) + lane / 16"),
        ITEMS,
    ),
    Mistake(HOPPER_ATTENTION, 0, "slots_of(leaves) <= SLOTS", To("true"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "at < SLOTS ? at : at - SLOTS", To("at"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "behind(slots + 1)", To("behind(slots)"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "leaf / CHUNK * 2", To("0"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "(lane / 8) ^ (leaf % 8)", To("(lane / 8)"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "block / 8 * PANEL", To("0"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "(at ^ block % 8 * 16)", To("at"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "ahead.wait(), ahead.next();", Gone, ITEMS),
    Mistake(HOPPER_ATTENTION, 2, "ring.leave();", Gone, ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "lane % 8 * 4", To("lane % 8"), ITEMS),
    Mistake(HOPPER_ATTENTION, 0, "start < group.most", To("start + CHUNK < group.most"), RANGES),
    Mistake("rms_norm.cu", 0, "x[j] * scale * weight[j]", To("x[0] * scale * weight[j]"), RMS_NORM),
    Mistake("rms_norm.cu", 0, "four.w * scale * w.w", To("four.z * scale * w.w"), RMS_NORM),
    Mistake("rms_norm.cu", 0, "d % 4 == 0", To("true"), RMS_NORM),
    Mistake("rms_norm.cu", 0, "j < d && j < i + 4", To("j < i + 4"), RMS_NORM),
    Mistake("common/four.cuh", 0, "first + 4 <= len", To("true"), SCALE),
    Mistake("common/four.cuh", 0, "i < len && i < first + 4", To("i < first + 4"), SCALE),
    Mistake("rms_norm.cu", 0, "inverse[blockIdx.x] = scale;", Gone, RMS_NORM),
    Mistake("common/reduce.cuh", 0, "(int)blockDim.x / WARP", To("(int)blockDim.x / WARP - 1"), RMS_NORM),
    Mistake("common/reduce.cuh", 0, "slots[warp] = of_warp;", Gone, REDUCE),
    Mistake("reduce.cu", 0, "start + BLOCK < len", To("true"), REDUCE),
    Mistake("reduce.cu", 0, "start + threadIdx.x", To("start + threadIdx.x + 1"), REDUCE),
    Mistake("reduce.cu", 0, "blockIdx.x - of.first", To("blockIdx.x"), NORMS),
    Mistake("reduce.cu", 0, "sums[of.first + i]", To("sums[i]"), NORMS),
    Mistake("adamw.cu", 0, "blockIdx.x - of.first", To("blockIdx.x"), UPDATES),
    Mistake("adamw.cu", 0, "start + lea::BLOCK < of.len", To("true"), UPDATES),
    Mistake(
        "common/table.cuh",
        0,
        "table.rows[middle].first <= blockIdx.x",
        To("table.rows[middle].first < blockIdx.x"),
        UPDATES,
    ),
    Mistake("common/columns.cuh", 0, "column < columns", To("true"), SUMS),
    Mistake("common/columns.cuh", 1, "column < columns", To("true"), SUMS),
    Mistake("common/columns.cuh", 0, "lane < ROW_LANES", To("lane < ROW_LANES - 1"), SUMS),
    Mistake("common/columns.cuh", 0, "row < end", To("row + 1 < end"), SUMS),
    Mistake("top_k.cu", 0, "(bits & 0x7fffffffu) > 0x7f800000u", To("false"), NAN),
    Mistake("top_k.cu", 0, "bits == 0x80000000u", To("false"), TOP_K),
    Mistake("top_k.cu", 0, "counts[threadIdx.x] = 0;", Gone, TOP_K),
    Mistake("top_k.cu", 0, "taken = 0;", Gone, TOP_K),
    Mistake("top_k.cu", 0, "(low & run) == 0", To("true"), TOP_K),
    Mistake("top_k.cu", 0, "b > a", To("b < a"), TOP_K),
    Mistake("top_k.cu", 0, "own[i] = 0;", Gone, TOP_K),
    Mistake("top_k.cu", 0, "i >= len", To("false"), TOP_K),
    Mistake("gru.cu", 0, "visit >= running || unit >= h", To("unit >= h"), GRU),
    Mistake("gru.cu", 0, "visit >= running || unit >= h", To("visit >= running"), GRU),
    Mistake("gru.cu", 0, "weight_unit < h && depth < h", To("weight_unit < h"), GRU),
    Mistake("gru.cu", 0, "gate * h + weight_unit", To("weight_unit"), GRU),
    Mistake("gru.cu", 0, "kept[cell + h] = z;", Gone, GRU),
    Mistake("gru.cu", 0, "column < 2 * h", To("true"), GRU),
    Mistake("gru.cu", 1, "visit < later", To("true"), GRU),
];

/// The tests of which one must fail where a barrier of a file is taken away.
pub const BARRIERS: [(&str, &[&str]); 13] = [
    ("matmul.cu", &[TILES]),
    (PRODUCT, &[HALVES]),
    (LOW_RANK, &[ADAPTED]),
    (SM90, &[HOPPER]),
    ("forest_attention.cu", &[ATTENTION]),
    ("forest_attention_bf16.cu", &[ATTENTION_BF16]),
    (BACKWARD, &[STEMS]),
    (HOPPER_ATTENTION, &[RANGES]),
    ("top_k.cu", &[TOP_K]),
    ("gru.cu", &[GRU]),
    ("standing.cu", &["ops::search::standings_are_those_of_the_host"]),
    ("common/reduce.cuh", &["ops::elements::layer_norm", RMS_NORM]),
    ("common/columns.cuh", &[SUMS]),
];
