// kept: attention of one row over all keys that are kept (src/cpu/attention.rs, its `apply_last`). Blocks share the keys,
// since one row has few heads: what is a chain for the CPU is one here, and all else is done for each key by itself.
//
//     kept_scores     scores of 128 keys for 8 heads, and the greatest of these
//     kept_weights    exponentials relative to the greatest of all
//     kept_sums       their sums, 16 chains for each head
//     kept_values     a chain of 256 keys, for 8 heads and 128 columns
//     kept_heads      these chains, added in order

const u32 KEPT_KEYS = 128;

struct Kept {
    u32 rows;
    u32 heads;
    u32 kv_heads;
    u32 width;
    // The first key that is seen.
    u32 first;
    u32 to_bf16;
    u32 has_cap;
    float cap;
    float scale;
    // How far a head's scores are from the next one's: at least as many as are seen.
    u32 stride;

    // Heads that share keys are taken by eights. The number of such parts is that of blocks in the grid's third direction.
    __device__ u32 group() const { return heads / kv_heads; }
    __device__ u32 head() const { return blockIdx.y * group() + blockIdx.z * 8; }
    __device__ u32 count() const { return group() - blockIdx.z * 8 < 8 ? group() - blockIdx.z * 8 : 8; }
    // Chains of values begin at multiples of CHAIN.
    __device__ u32 from() const { return first / CHAIN * CHAIN; }
};

// Keeps a row's keys and values.
extern "C" __global__ void keep(float *keys, float *values, const float *k, const float *v, u64 count) {
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (u64)gridDim.x * blockDim.x) {
        keys[at] = k[at];
        values[at] = v[at];
    }
}

// Grid: tiles of keys from the first on that is seen, heads of keys, parts of their heads.
extern "C" __global__ void __launch_bounds__(128, 4) kept_scores(const float *q, const float *keys, float *scores,
                                                                 float *greatest, Kept s) {
    __shared__ float parts[8][KEPT_KEYS];
    u32 thread = threadIdx.x, head = s.head(), seen = s.rows - s.first, key = blockIdx.x * KEPT_KEYS + thread;
    u64 stride = (u64)s.kv_heads * s.width;
    float total[8];
    few<F32, 8>(FewRows{q + (u64)head * s.width, s.width, keys + s.first * stride + blockIdx.y * s.width, stride, s.count(),
                        seen, s.width, s.to_bf16},
                blockIdx.x * KEPT_KEYS, 7, total);
#pragma unroll
    for (u32 row = 0; row < 8; row++) {
        float x = total[row] * s.scale;
        if (s.has_cap) x = capped(x, s.cap);
        // What is not a number is not the greatest.
        parts[row][thread] = key < seen && x == x ? x : -__uint_as_float(0x7f800000u);
        if (key < seen && row < s.count()) scores[(u64)(head + row) * s.stride + key] = x;
    }
    __syncthreads();
    for (u32 half = KEPT_KEYS / 2; half > 0; half /= 2) {
        for (u32 row = 0; row < 8; row++)
            if (thread < half && parts[row][thread + half] > parts[row][thread]) parts[row][thread] = parts[row][thread + half];
        __syncthreads();
    }
    if (thread < s.count()) greatest[(u64)(head + thread) * gridDim.x + blockIdx.x] = parts[thread][0];
}

// Grid: 1,024 keys each, heads; 256 threads. `tiles` is how many greatest scores there are of each head.
extern "C" __global__ void kept_weights(float *scores, const float *greatest, u32 tiles, Kept s) {
    __shared__ float parts[256];
    u32 thread = threadIdx.x, head = blockIdx.y, seen = s.rows - s.first;
    float own = -__uint_as_float(0x7f800000u);
    for (u32 tile = thread; tile < tiles; tile += 256) {
        float other = greatest[(u64)head * tiles + tile];
        own = other > own ? other : own;
    }
    parts[thread] = own;
    __syncthreads();
    for (u32 half = 128; half > 0; half /= 2) {
        if (thread < half && parts[thread + half] > parts[thread]) parts[thread] = parts[thread + half];
        __syncthreads();
    }
    own = parts[0];
    float *all = scores + (u64)head * s.stride;
    for (u32 i = 0; i < 4; i++) {
        u32 key = blockIdx.x * 1024 + i * 256 + thread;
        if (key < seen) all[key] = exponential(all[key] - own);
    }
}

// Grid: heads; 256 threads. While 16 threads add, all load what comes next.
extern "C" __global__ void kept_sums(const float *scores, float *sums, Kept s) {
    const u32 EACH = 8, TOGETHER = 256 * EACH;
    __shared__ float held[TOGETHER];
    u32 thread = threadIdx.x, seen = s.rows - s.first;
    const float *all = scores + (u64)blockIdx.x * s.stride;
    float sum = 0.0f, own[EACH];
    auto load = [&](u32 from) {
#pragma unroll
        for (u32 i = 0; i < EACH; i++) {
            u32 key = from + i * 256 + thread;
            // Zeros do not change a sum of exponentials, which is not negative.
            own[i] = key < seen ? all[key] : 0.0f;
        }
    };
    load(0);
#pragma unroll 1
    for (u32 from = 0; from < seen; from += TOGETHER) {
#pragma unroll
        for (u32 i = 0; i < EACH; i++) held[i * 256 + thread] = own[i];
        __syncthreads();
        load(from + TOGETHER);
        if (thread < 16)
#pragma unroll 16
            for (u32 i = 0; i < TOGETHER / 16; i++) sum += held[i * 16 + thread];
        __syncthreads();
    }
    if (thread < 16) held[thread] = sum;
    __syncthreads();
    if (thread == 0) {
        sum = held[0];
        for (u32 lane = 1; lane < 16; lane++) sum += held[lane];
        sums[blockIdx.x] = sum;
    }
}

// Grid: chains x tiles of 128 columns, heads of values, parts of their heads; 128 threads.
extern "C" __global__ void __launch_bounds__(128) kept_values(const float *scores, const float *sums, const float *values,
                                                              float *parts, Kept s) {
    const u32 BATCH = 16;
    __shared__ Floats weights[CHAIN][2];
    u32 thread = threadIdx.x, tiles = (s.width + 127) / 128, chain = blockIdx.x / tiles;
    u32 column = blockIdx.x % tiles * 128 + thread, head = s.head();
    u32 from = s.from() + chain * CHAIN, to = from + CHAIN < s.rows ? from + CHAIN : s.rows;
    for (u32 at = thread; at < CHAIN * 8; at += 128) {
        u32 row = at / CHAIN, key = from + at % CHAIN;
        bool there = row < s.count() && key >= s.first && key < to;
        weights[at % CHAIN][row / 4].at[row % 4] =
            there ? rounded(scores[(u64)(head + row) * s.stride + key - s.first] / sums[head + row], s.to_bf16) : 0.0f;
    }
    __syncthreads();
    if (column >= s.width) return;
    u64 stride = (u64)s.kv_heads * s.width;
    const float *own = values + from * stride + blockIdx.y * s.width + column;
    float total[8];
    for (u32 row = 0; row < 8; row++) total[row] = 0.0f;
    auto take = [&](u32 key, float value) {
        Floats first = weights[key][0], second = weights[key][1];
        float x = rounded(value, s.to_bf16);
#pragma unroll
        for (u32 row = 0; row < 4; row++) {
            total[row] = fmaf(first.at[row], x, total[row]);
            total[4 + row] = fmaf(second.at[row], x, total[4 + row]);
        }
    };
    u32 key = 0;
#pragma unroll 1
    for (; key + BATCH <= to - from; key += BATCH) {
        float batch[BATCH];
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) batch[i] = own[(key + i) * stride];
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) take(key + i, batch[i]);
    }
#pragma unroll 1
    for (; key < to - from; key++) take(key, own[key * stride]);
#pragma unroll
    for (u32 row = 0; row < 8; row++)
        if (row < s.count()) parts[((u64)chain * s.heads + head + row) * s.width + column] = total[row];
}

extern "C" __global__ void kept_heads(const float *parts, float *out, u32 chains, u32 count) {
    u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    float sum = parts[at];
    for (u32 chain = 1; chain < chains; chain++) sum += parts[(u64)chain * count + at];
    out[at] = sum;
}
