// product: rows times weights, y = x · Wᵀ + b (src/cpu/tile.rs, src/cpu/product.rs).
//
// An element of the result is, for each block of 256 terms, one chain of fused multiply-adds in order, and these chains are
// added in order: the bits of the CPU, whatever rows are beside it. A block of 256 threads makes 128 x 128 elements, 8 x 8
// each thread; between chains the sums are in the result's place.

const u32 TILE = 128;
const u32 STEPS = 8;
const u32 CHAIN = 256;

// Multiplies rows and columns of two operands over the terms from..to; `from` is a multiple of CHAIN. What is stored goes
// through `Out::add` chain by chain; the first of them does not add.
template <class Left, class Right, class Out>
__device__ inline void multiply(const Left &left, const Right &right, const Out &out, u32 row, u32 column, u32 rows, u32 columns,
                                u32 from, u32 to) {
    // One more column, so that neighbours in a row of threads do not write to the same bank.
    __shared__ float a[STEPS][TILE + 4];
    __shared__ float b[STEPS][TILE + 4];
    u32 thread = threadIdx.x;
    u32 y = thread / 16 * 8, x = thread % 16 * 8;
    float sums[8][8];
    for (u32 i = 0; i < 8; i++)
        for (u32 j = 0; j < 8; j++) sums[i][j] = 0.0f;
    for (u32 k = from; k < to; k += STEPS) {
        for (u32 part = 0; part < TILE * STEPS / 256; part++) {
            u32 at = part * 256 + thread;
            u32 l = at / STEPS, step = at % STEPS;
            a[step][l] = row + l < rows && k + step < to ? left(row + l, k + step) : 0.0f;
            if (Right::TERMS_ARE_NEIGHBOURS) {
                b[step][l] = column + l < columns && k + step < to ? right(column + l, k + step) : 0.0f;
            } else {
                step = at / TILE, l = at % TILE;
                b[step][l] = column + l < columns && k + step < to ? right(column + l, k + step) : 0.0f;
            }
        }
        __syncthreads();
        // Terms beyond the end are not added as zeros: that would make +0 of -0.
        u32 steps = to - k < STEPS ? to - k : STEPS;
        if (steps == STEPS) {
#pragma unroll
            for (u32 step = 0; step < STEPS; step++)
#pragma unroll
                for (u32 i = 0; i < 8; i++)
#pragma unroll
                    for (u32 j = 0; j < 8; j++) sums[i][j] = fmaf(a[step][y + i], b[step][x + j], sums[i][j]);
        } else {
#pragma unroll 1
            for (u32 step = 0; step < steps; step++)
#pragma unroll
                for (u32 i = 0; i < 8; i++)
#pragma unroll
                    for (u32 j = 0; j < 8; j++) sums[i][j] = fmaf(a[step][y + i], b[step][x + j], sums[i][j]);
        }
        __syncthreads();
        bool last = k + STEPS >= to;
        if ((k + STEPS) % CHAIN == 0 || last) {
            bool first = k / CHAIN == from / CHAIN;
#pragma unroll
            for (u32 i = 0; i < 8; i++)
#pragma unroll
                for (u32 j = 0; j < 8; j++) {
                    if (row + y + i < rows && column + x + j < columns)
                        out.add(row + y + i, column + x + j, sums[i][j], first, last);
                    sums[i][j] = 0.0f;
                }
        }
    }
}

struct Activations {
    static const bool TERMS_ARE_NEIGHBOURS = true;
    const float *numbers;
    u64 stride;
    u32 to_bf16;
    __device__ float operator()(u32 row, u32 term) const { return rounded(numbers[row * stride + term], to_bf16); }
};

template <int FORMAT>
struct Weights {
    static const bool TERMS_ARE_NEIGHBOURS = true;
    const void *elements;
    u64 depth;
    u32 to_bf16;
    __device__ float operator()(u32 output, u32 term) const {
        return rounded(widen<FORMAT>(elements, output * depth + term), to_bf16);
    }
};

struct Outputs {
    float *numbers;
    u64 stride;
    const float *bias;
    __device__ void add(u32 row, u32 column, float chain, bool first, bool last) const {
        float *to = &numbers[row * stride + column];
        float sum = first ? chain : *to + chain;
        *to = last && bias ? sum + bias[column] : sum;
    }
};

template <int FORMAT>
__device__ inline void product(const float *x, const void *weights, const float *bias, float *y, u32 rows, u32 outputs, u32 depth,
                               u32 to_bf16) {
    multiply(Activations{x, depth, to_bf16}, Weights<FORMAT>{weights, depth, to_bf16}, Outputs{y, outputs, bias},
             blockIdx.y * TILE, blockIdx.x * TILE, rows, outputs, 0, depth);
}

extern "C" __global__ void __launch_bounds__(256) product_bf16(const float *x, const void *weights, const float *bias, float *y,
                                                               u32 rows, u32 outputs, u32 depth, u32 to_bf16) {
    product<BF16>(x, weights, bias, y, rows, outputs, depth, to_bf16);
}

extern "C" __global__ void __launch_bounds__(256) product_f16(const float *x, const void *weights, const float *bias, float *y,
                                                              u32 rows, u32 outputs, u32 depth, u32 to_bf16) {
    product<F16>(x, weights, bias, y, rows, outputs, depth, to_bf16);
}

extern "C" __global__ void __launch_bounds__(256) product_f32(const float *x, const void *weights, const float *bias, float *y,
                                                              u32 rows, u32 outputs, u32 depth, u32 to_bf16) {
    product<F32>(x, weights, bias, y, rows, outputs, depth, to_bf16);
}
