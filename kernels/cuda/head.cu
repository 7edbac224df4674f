// head: what a row sees of one tile of the vocabulary (src/cpu/head.rs). Logits are capped in place; the greatest so far is
// kept from tile to tile; the sum of exponentials relative to it goes through 16 lanes of f64, added up in order.

// What a tile leaves of a row; the host folds tiles in order.
struct Seen {
    double sum;
    float greatest;
    // Within the tile; 0xffffffff where no logit is greater than those before.
    u32 best;
    u32 nan;
    u32 unused;
};

// Grid: rows; 128 threads.
extern "C" __global__ void head_seen(float *logits, float *greatest_so_far, Seen *seen, u32 width, u32 has_cap, float cap) {
    __shared__ float values[128];
    __shared__ u32 places[128];
    __shared__ double lanes[16];
    __shared__ u32 nans;
    u32 thread = threadIdx.x, row = blockIdx.x;
    float *own = logits + (u64)row * width;
    if (thread == 0) nans = 0;
    __syncthreads();
    float before = greatest_so_far[row], greatest = before;
    u32 best = 0xffffffffu;
    for (u32 i = thread; i < width; i += 128) {
        float x = own[i];
        if (has_cap) {
            x = capped(x, cap);
            own[i] = x;
        }
        if (x != x) atomicOr(&nans, 1u);
        if (x > greatest) greatest = x, best = i;
    }
    values[thread] = greatest;
    places[thread] = best;
    __syncthreads();
    for (u32 half = 64; half > 0; half /= 2) {
        if (thread < half) {
            float other = values[thread + half];
            u32 place = places[thread + half];
            // The first of equals.
            if (other > values[thread] || (other == values[thread] && place < places[thread])) {
                values[thread] = other;
                places[thread] = place;
            }
        }
        __syncthreads();
    }
    greatest = values[0];
    if (thread < 16) {
        double sum = 0.0;
        for (u32 i = thread; i < width; i += 16) sum += (double)exponential(own[i] - greatest);
        lanes[thread] = sum;
    }
    __syncthreads();
    if (thread == 0) {
        double sum = lanes[0];
        for (u32 lane = 1; lane < 16; lane++) sum += lanes[lane];
        greatest_so_far[row] = greatest;
        seen[row] = Seen{sum, greatest, places[0], nans, 0};
    }
}

// Keeps the logits that are asked for of the tokens from `first` on: pairs of row and token.
extern "C" __global__ void head_asked(const float *logits, const u32 *asked, float *kept, u32 count, u32 first, u32 width) {
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        u32 token = asked[2 * i + 1];
        if (token >= first && token - first < width) kept[i] = logits[(u64)asked[2 * i] * width + token - first];
    }
}
