// attention: within one sequence (src/cpu/attention.rs). Scores of some heads at a time, weights in their place, then what
// the weights make of the values. Chains over keys begin at multiples of 256, so tiles do not show.

struct Sequence {
    u32 length;
    u32 heads;
    u32 kv_heads;
    u32 width;
    u32 causal;
    // 0 for none.
    u32 window;
    u32 to_bf16;
    u32 first_head;
    u32 has_cap;
    float cap;
    float scale;

    // The first key that a row sees, and the one behind the last.
    __device__ u32 first_seen(u32 row) const { return window != 0 && row + 1 > window ? row + 1 - window : 0; }
    __device__ u32 end_seen(u32 row) const { return causal ? row + 1 : length; }
    // The keys that rows of a tile are multiplied with.
    __device__ u32 from(u32 row) const { return first_seen(row / TILE * TILE) / CHAIN * CHAIN; }
    __device__ u32 to(u32 row) const {
        u32 end = row / TILE * TILE + TILE;
        return causal && end < length ? end : length;
    }
};

struct AsScores {
    float *scores;
    u64 stride;
    __device__ void add(u32 row, u32 key, float chain, bool first, bool) const {
        float *to = &scores[row * stride + key];
        *to = first ? chain : *to + chain;
    }
};

// Grid: tiles of keys, tiles of rows, heads.
extern "C" __global__ void __launch_bounds__(256) attention_scores(const float *q, const float *k, float *scores, Sequence s) {
    u32 row = blockIdx.y * TILE, key = blockIdx.x * TILE, head = s.first_head + blockIdx.z;
    if (key >= s.to(row) || key + TILE <= s.first_seen(row)) return;
    u64 kv = (u64)head * s.kv_heads / s.heads;
    Activations queries{q + (u64)head * s.width, (u64)s.heads * s.width, s.to_bf16};
    Activations keys{k + kv * s.width, (u64)s.kv_heads * s.width, s.to_bf16};
    AsScores out{scores + (u64)blockIdx.z * s.length * s.length, s.length};
    multiply(queries, keys, out, row, key, s.length, s.length, 0, s.width);
}

// Grid: rows, heads; 128 threads.
extern "C" __global__ void attention_weights(float *scores, Sequence s) {
    __shared__ float parts[128];
    __shared__ float total;
    u32 thread = threadIdx.x, row = blockIdx.x;
    float *all = scores + ((u64)blockIdx.y * s.length + row) * s.length;
    u32 first = s.first_seen(row), end = s.end_seen(row);
    float greatest = -__uint_as_float(0x7f800000u);
    for (u32 key = first + thread; key < end; key += 128) {
        float x = all[key] * s.scale;
        if (s.has_cap) x = capped(x, s.cap);
        all[key] = x;
        greatest = x > greatest ? x : greatest;
    }
    parts[thread] = greatest;
    __syncthreads();
    for (u32 half = 64; half > 0; half /= 2) {
        if (thread < half && parts[thread + half] > parts[thread]) parts[thread] = parts[thread + half];
        __syncthreads();
    }
    greatest = parts[0];
    __syncthreads();
    for (u32 key = first + thread; key < end; key += 128) all[key] = exponential(all[key] - greatest);
    __syncthreads();
    if (thread < 16) {
        float sum = 0.0f;
        for (u32 key = first + thread; key < end; key += 16) sum += all[key];
        parts[thread] = sum;
    }
    __syncthreads();
    if (thread == 0) {
        float sum = parts[0];
        for (u32 lane = 1; lane < 16; lane++) sum += parts[lane];
        total = sum;
    }
    __syncthreads();
    for (u32 key = s.from(row) + thread; key < s.to(row); key += 128)
        all[key] = key >= first && key < end ? rounded(all[key] / total, s.to_bf16) : 0.0f;
}

struct Values {
    static const bool TERMS_ARE_NEIGHBOURS = false;
    const float *numbers;
    u64 stride;
    u32 to_bf16;
    __device__ float operator()(u32 column, u32 key) const { return rounded(numbers[key * stride + column], to_bf16); }
};

// Grid: tiles of a head's width, tiles of rows, heads.
extern "C" __global__ void __launch_bounds__(256) attention_values(const float *scores, const float *v, float *out, Sequence s) {
    u32 row = blockIdx.y * TILE, column = blockIdx.x * TILE, head = s.first_head + blockIdx.z;
    u64 kv = (u64)head * s.kv_heads / s.heads;
    Activations weights{scores + (u64)blockIdx.z * s.length * s.length, s.length, 0};
    Values values{v + kv * s.width, (u64)s.kv_heads * s.width, s.to_bf16};
    AsScores results{out + (u64)head * s.width, (u64)s.heads * s.width};
    multiply(weights, values, results, row, column, s.length, s.width, s.from(row), s.to(row));
}
