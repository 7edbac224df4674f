// matrix: rows times weights by matrix units, where both operands are rounded to bfloat16 anyway and somebody asked for it.
//
// The units add 16 products at a time to a sum of f32, in an order and with a rounding of their own: results are those of a
// class of devices, and differ from product.cu's by no more than depth · 2^-22 · Σ |x · w|. What an element is does not
// depend on what is beside it. A block of 128 threads makes 128 x 128 elements, 64 x 64 each warp; 32 terms are multiplied
// while the next 32 are on their way.

const u32 MATRIX_THREADS = 128;
const u32 MATRIX_TERMS = 32;
// 16-byte pieces of a row of operands: 4 with terms, and one so that 8 rows do not want the same banks.
const u32 MATRIX_STRIDE = 5;

// Rounds numbers to bfloat16, two in a word.
extern "C" __global__ void to_halves(const float *from, u32 *to, u64 words) {
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < words; at += (u64)gridDim.x * blockDim.x) {
        u32 word = 0;
        for (u32 i = 0; i < 2; i++) {
            float x = from[2 * at + i];
            // A number that is none must not lose what says so.
            u32 bits = x == x ? __float_as_uint(rounded(x, 1)) >> 16 : 0x7fc0;
            word |= bits << 16 * i;
        }
        to[at] = word;
    }
}

// Grid: tiles of outputs, tiles of rows. The depth is a multiple of 8.
extern "C" __global__ void __launch_bounds__(128, 2) matrix_bf16(const u16 *x, const u16 *weights, const float *bias, float *y,
                                                                 u32 rows, u32 outputs, u32 depth) {
    __shared__ Words left[2][TILE * MATRIX_STRIDE];
    __shared__ Words right[2][TILE * MATRIX_STRIDE];
    u32 thread = threadIdx.x, lane = thread % 32, row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    // What a warp makes begins here.
    u32 y_warp = thread / 64 * 64, x_warp = thread / 32 % 2 * 64;
    u32 steps = (depth + MATRIX_TERMS - 1) / MATRIX_TERMS;

    auto begin_one = [&](Words *to, const u16 *from, u32 at, u32 end, u32 term) {
        // What is beyond an edge is multiplied as zeros.
        if (at < end && term < depth) begin_copy(to, from + (u64)at * depth + term);
        else *to = Words{};
    };
    auto begin = [&](u32 step) {
        if (step < steps)
#pragma unroll
            for (u32 part = 0; part < TILE * 4 / MATRIX_THREADS; part++) {
                u32 at = (part * MATRIX_THREADS + thread) / 4, piece = thread % 4;
                u32 term = step * MATRIX_TERMS + piece * 8;
                begin_one(&left[step % 2][at * MATRIX_STRIDE + piece], x, row + at, rows, term);
                begin_one(&right[step % 2][at * MATRIX_STRIDE + piece], weights, column + at, outputs, term);
            }
        end_group();
    };

    float sums[4][8][4];
#pragma unroll
    for (u32 i = 0; i < 4; i++)
#pragma unroll
        for (u32 j = 0; j < 8; j++)
#pragma unroll
            for (u32 l = 0; l < 4; l++) sums[i][j][l] = 0.0f;
    begin(0);
#pragma unroll 1
    for (u32 step = 0; step < steps; step++) {
        begin(step + 1);
        wait_for_groups<1>();
        __syncthreads();
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 a[4][4], b[4][4];
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                // Rows 0..8 and 8..16 of the first 8 terms, then of the others.
                u32 at = y_warp + i * 16 + lane % 16, piece = half * 2 + lane / 16;
                load_matrices(&left[step % 2][at * MATRIX_STRIDE + piece], a[i]);
                // Both eights of terms of columns 0..8, then of 8..16.
                at = x_warp + i * 16 + lane / 16 * 8 + lane % 8, piece = half * 2 + lane / 8 % 2;
                load_matrices(&right[step % 2][at * MATRIX_STRIDE + piece], b[i]);
            }
#pragma unroll
            for (u32 i = 0; i < 4; i++)
#pragma unroll
                for (u32 j = 0; j < 8; j++) mma_bf16(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
        __syncthreads();
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++)
#pragma unroll
        for (u32 j = 0; j < 8; j++)
#pragma unroll
            for (u32 l = 0; l < 4; l++) {
                u32 at = row + y_warp + i * 16 + l / 2 * 8 + lane / 4, output = column + x_warp + j * 8 + lane % 4 * 2 + l % 2;
                if (at < rows && output < outputs)
                    y[(u64)at * outputs + output] = bias ? sums[i][j][l] + bias[output] : sums[i][j][l];
            }
}
