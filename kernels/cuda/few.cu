// few: at most 8 rows times weights, as models need it that write one token after the other (src/cpu/single.rs).
//
// There is little to compute for a weight, so what counts is that each is read once, in pieces of 128 bytes, and that many
// are on their way at any time. A thread walks one chain of one output. What it needs comes through shared memory, in stages
// of 128 bytes of each thread's chain: 8 threads load what one of them walks, while all walk the stage before.

const u32 FEW_THREADS = 128;
// 16 bytes more than a stage has of a chain, so that 8 threads that read 16 bytes each do not want the same banks.
const u32 FEW_STRIDE = 9;

struct FewRows {
    const float *x;
    u64 x_stride;
    const void *weights;
    u64 stride;
    u32 rows;
    u32 outputs;
    u32 depth;
    u32 to_bf16;
};

template <int FORMAT>
struct Stage {
    static const u32 SIZE = FORMAT == F32 ? 4 : 2;
    // Terms of a chain in a stage, and stages of a chain.
    static const u32 TERMS = 128 / SIZE;
    static const u32 COUNT = CHAIN / TERMS;
};

// Elements of one word.
template <int FORMAT>
__device__ inline void unpack(u32 word, float *to, u32 to_bf16) {
    if (FORMAT == BF16) {
        to[0] = __uint_as_float(word << 16);
        to[1] = __uint_as_float(word & 0xffff0000u);
    } else if (FORMAT == F16) {
        to[0] = rounded(from_f16((u16)word), to_bf16);
        to[1] = rounded(from_f16((u16)(word >> 16)), to_bf16);
    } else {
        to[0] = rounded(__uint_as_float(word), to_bf16);
    }
}

// Multiplies rows with the outputs from `first` on, as many as 2^shift, and leaves the sums of output first + i with the
// thread i. As many chains of an output are walked at a time as there are threads for: not more than 32 / ROWS.
template <int FORMAT, u32 ROWS>
__device__ inline void few(const FewRows &f, u32 first, u32 shift, float (&total)[ROWS]) {
    const u32 TERMS = Stage<FORMAT>::TERMS, SIZE = Stage<FORMAT>::SIZE, COUNT = Stage<FORMAT>::COUNT;
    const u32 APART = TERMS + 4;
    // What a thread loads of the rows for a stage, at most.
    const u32 OWN = (ROWS == 1 ? 16 : 32) * TERMS / FEW_THREADS;
    __shared__ Words pieces[2][FEW_THREADS * FEW_STRIDE];
    __shared__ Floats room[32 * APART / 4];
    float *terms = room[0].at;
    u32 thread = threadIdx.x, outputs = 1u << shift, chains = FEW_THREADS >> shift;
    u32 output = thread & (outputs - 1), lane = thread >> shift;
    bool exists = first + output < f.outputs;
    bool whole = f.stride * SIZE % 16 == 0 && f.depth * SIZE % 16 == 0 && (u64)f.weights % 16 == 0;
    u32 stages = (f.depth + CHAIN * chains - 1) / (CHAIN * chains) * COUNT;
    // Where a chain's part of a stage begins.
    auto term_of = [&](u32 stage, u32 lane) { return (stage / COUNT * chains + lane) * CHAIN + stage % COUNT * TERMS; };

    auto begin = [&](u32 stage) {
#pragma unroll 2
        for (u32 part = 0; part < 8; part++) {
            u32 of = part * 16 + thread / 8, at = first + (of & (outputs - 1));
            u32 term = term_of(stage, of >> shift) + thread % 8 * (16 / SIZE);
            if (stage >= stages || at >= f.outputs || term >= f.depth) continue;
            Words *to = &pieces[stage % 2][of * FEW_STRIDE + thread % 8];
            u64 from = at * f.stride + term;
            if (whole) {
                begin_copy(to, (const u8 *)f.weights + from * SIZE);
            } else {
                Words words{};
#pragma unroll
                for (u32 i = 0; i < 16 / SIZE; i++) {
                    if (term + i >= f.depth) continue;
                    if (SIZE == 4) words.at[i % 4] = ((const u32 *)f.weights)[from + i];
                    else words.at[i / 2] |= (u32)((const u16 *)f.weights)[from + i] << i % 2 * 16;
                }
                *to = words;
            }
        }
        end_group();
    };

    float own[OWN];
    auto load = [&](u32 stage) {
#pragma unroll
        for (u32 part = 0; part < OWN; part++) {
            u32 at = part * FEW_THREADS + thread, row = at / TERMS >> (7 - shift);
            u32 term = term_of(stage, at / TERMS & (chains - 1)) + at % TERMS;
            bool there = stage < stages && row < f.rows && term < f.depth;
            own[part] = there ? rounded(f.x[row * f.x_stride + term], f.to_bf16) : 0.0f;
        }
    };

    float sums[ROWS];
#pragma unroll
    for (u32 row = 0; row < ROWS; row++) sums[row] = total[row] = 0.0f;
    begin(0);
    load(0);
#pragma unroll 1
    for (u32 stage = 0; stage < stages; stage++) {
        begin(stage + 1);
#pragma unroll
        for (u32 part = 0; part < OWN; part++) {
            u32 at = part * FEW_THREADS + thread;
            if (at < ROWS * chains * TERMS) terms[at / TERMS * APART + at % TERMS] = own[part];
        }
        wait_for_groups<1>();
        __syncthreads();
        load(stage + 1);
        u32 term = term_of(stage, lane);
        const Words *mine = &pieces[stage % 2][thread * FEW_STRIDE];
        if (exists && term + TERMS <= f.depth) {
#pragma unroll(ROWS == 1 ? 4 : 1)
            for (u32 i = 0; i < 8; i++) {
                Words words = mine[i];
                float weights[16 / SIZE];
#pragma unroll
                for (u32 j = 0; j < 4; j++) unpack<FORMAT>(words.at[j], &weights[j * 4 / SIZE], f.to_bf16);
#pragma unroll
                for (u32 row = 0; row < ROWS; row++) {
                    const Floats *x = &room[((row * chains + lane) * APART + i * (16 / SIZE)) / 4];
#pragma unroll
                    for (u32 j = 0; j < 16 / SIZE; j += 4) {
                        Floats four = x[j / 4];
#pragma unroll
                        for (u32 l = 0; l < 4; l++) sums[row] = fmaf(four.at[l], weights[j + l], sums[row]);
                    }
                }
            }
        } else if (exists) {
            // Terms beyond the end are not added as zeros.
#pragma unroll 1
            for (u32 i = 0; term + i < f.depth; i++) {
                float of_word[4 / SIZE];
                unpack<FORMAT>(mine[i * SIZE / 16].at[i * SIZE / 4 % 4], of_word, f.to_bf16);
                float weight = SIZE == 4 || i % 2 == 0 ? of_word[0] : of_word[4 / SIZE - 1];
#pragma unroll
                for (u32 row = 0; row < ROWS; row++)
                    sums[row] = fmaf(terms[(row * chains + lane) * APART + i], weight, sums[row]);
            }
        }
        __syncthreads();
        if (stage % COUNT != COUNT - 1) continue;
        // Chains are at their ends: they are added in order.
#pragma unroll
        for (u32 row = 0; row < ROWS; row++) terms[row * FEW_THREADS + thread] = sums[row], sums[row] = 0.0f;
        __syncthreads();
        u32 chain = stage / COUNT * chains;
        for (u32 i = 0; lane == 0 && i < chains && (chain + i) * CHAIN < f.depth; i++)
#pragma unroll
            for (u32 row = 0; row < ROWS; row++) {
                float one = terms[row * FEW_THREADS + (i << shift) + output];
                total[row] = chain + i == 0 ? one : total[row] + one;
            }
        __syncthreads();
    }
}

template <int FORMAT, u32 ROWS>
__device__ inline void product_of_few(const float *x, const void *weights, const float *bias, float *y, u32 rows, u32 outputs,
                                      u32 depth, u32 to_bf16, u32 shift) {
    float total[ROWS];
    u32 output = (blockIdx.x << shift) + threadIdx.x;
    few<FORMAT, ROWS>(FewRows{x, depth, weights, depth, rows, outputs, depth, to_bf16}, blockIdx.x << shift, shift, total);
    if (threadIdx.x >> shift != 0 || output >= outputs) return;
#pragma unroll
    for (u32 row = 0; row < ROWS; row++)
        if (row < rows) y[(u64)row * outputs + output] = bias ? total[row] + bias[output] : total[row];
}

extern "C" __global__ void __launch_bounds__(128, 4) row_bf16(const float *x, const void *weights, const float *bias, float *y,
                                                           u32 rows, u32 outputs, u32 depth, u32 to_bf16, u32 shift) {
    product_of_few<BF16, 1>(x, weights, bias, y, rows, outputs, depth, to_bf16, shift);
}

extern "C" __global__ void __launch_bounds__(128, 4) row_f16(const float *x, const void *weights, const float *bias, float *y,
                                                          u32 rows, u32 outputs, u32 depth, u32 to_bf16, u32 shift) {
    product_of_few<F16, 1>(x, weights, bias, y, rows, outputs, depth, to_bf16, shift);
}

extern "C" __global__ void __launch_bounds__(128, 4) row_f32(const float *x, const void *weights, const float *bias, float *y,
                                                          u32 rows, u32 outputs, u32 depth, u32 to_bf16, u32 shift) {
    product_of_few<F32, 1>(x, weights, bias, y, rows, outputs, depth, to_bf16, shift);
}

// Up to 8 rows; of those that do not exist zeros are multiplied.
extern "C" __global__ void __launch_bounds__(128, 3) few_bf16(const float *x, const void *weights, const float *bias, float *y,
                                                           u32 rows, u32 outputs, u32 depth, u32 to_bf16, u32 shift) {
    product_of_few<BF16, 8>(x, weights, bias, y, rows, outputs, depth, to_bf16, shift);
}

extern "C" __global__ void __launch_bounds__(128, 3) few_f16(const float *x, const void *weights, const float *bias, float *y,
                                                          u32 rows, u32 outputs, u32 depth, u32 to_bf16, u32 shift) {
    product_of_few<F16, 8>(x, weights, bias, y, rows, outputs, depth, to_bf16, shift);
}

extern "C" __global__ void __launch_bounds__(128, 3) few_f32(const float *x, const void *weights, const float *bias, float *y,
                                                          u32 rows, u32 outputs, u32 depth, u32 to_bf16, u32 shift) {
    product_of_few<F32, 8>(x, weights, bias, y, rows, outputs, depth, to_bf16, shift);
}
