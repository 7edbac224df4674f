// head: what rows see of some tiles of the vocabulary (src/cpu/head.rs). Logits are capped in place; the sum of exponentials
// relative to the greatest until then goes through 16 lanes of f64, added up in order.

// Tokens in a tile.
const u32 VOCABULARY_TILE = 1024;

// The greatest logit of a tile, its place within the tile, and whether one is not a number.
struct Top {
    float greatest;
    u32 place;
    u32 nan;
    u32 unused;
};

// What a tile leaves of a row; the host folds tiles in order.
struct Seen {
    double sum;
    float greatest;
    // Within the tile; 0xffffffff where no logit is greater than those before.
    u32 best;
    u32 nan;
    u32 unused;
};

// Grid: rows, tiles; 128 threads.
extern "C" __global__ void head_tops(float *logits, Top *tops, u32 width, u32 has_cap, float cap) {
    __shared__ float values[128];
    __shared__ u32 places[128];
    __shared__ u32 nans;
    u32 thread = threadIdx.x, begin = blockIdx.y * VOCABULARY_TILE;
    u32 end = begin + VOCABULARY_TILE < width ? begin + VOCABULARY_TILE : width;
    float *own = logits + (u64)blockIdx.x * width;
    if (thread == 0) nans = 0;
    __syncthreads();
    float greatest = -__uint_as_float(0x7f800000u);
    u32 place = 0xffffffffu;
    for (u32 i = begin + thread; i < end; i += 128) {
        float x = own[i];
        if (has_cap) {
            x = capped(x, cap);
            own[i] = x;
        }
        if (x != x) atomicOr(&nans, 1u);
        if (x > greatest) greatest = x, place = i - begin;
    }
    values[thread] = greatest;
    places[thread] = place;
    __syncthreads();
    for (u32 half = 64; half > 0; half /= 2) {
        if (thread < half) {
            float other = values[thread + half];
            u32 at = places[thread + half];
            // The first of equals.
            if (other > values[thread] || (other == values[thread] && at < places[thread])) {
                values[thread] = other;
                places[thread] = at;
            }
        }
        __syncthreads();
    }
    if (thread == 0) tops[(u64)blockIdx.y * gridDim.x + blockIdx.x] = Top{values[0], places[0], nans, 0};
}

// Grid: rows, tiles; 128 threads. The last tile says what is the greatest behind all of them.
extern "C" __global__ void head_seen(const float *logits, const Top *tops, const float *before, float *behind, Seen *seen,
                                     u32 width) {
    __shared__ double lanes[16];
    u32 thread = threadIdx.x, row = blockIdx.x, rows = gridDim.x, begin = blockIdx.y * VOCABULARY_TILE;
    u32 end = begin + VOCABULARY_TILE < width ? begin + VOCABULARY_TILE : width;
    const float *own = logits + (u64)row * width;
    Top top = tops[(u64)blockIdx.y * rows + row];
    float greatest = before[row];
    for (u32 tile = 0; tile < blockIdx.y; tile++) {
        float other = tops[(u64)tile * rows + row].greatest;
        greatest = other > greatest ? other : greatest;
    }
    u32 best = top.greatest > greatest ? top.place : 0xffffffffu;
    greatest = top.greatest > greatest ? top.greatest : greatest;
    if (thread < 16) {
        double sum = 0.0;
        for (u32 i = begin + thread; i < end; i += 16) sum += (double)exponential(own[i] - greatest);
        lanes[thread] = sum;
    }
    __syncthreads();
    if (thread == 0) {
        double sum = lanes[0];
        for (u32 lane = 1; lane < 16; lane++) sum += lanes[lane];
        if (blockIdx.y + 1 == gridDim.y) behind[row] = greatest;
        seen[(u64)blockIdx.y * rows + row] = Seen{sum, greatest, best, top.nan, 0};
    }
}

// Keeps the logits that are asked for of the tokens from `first` on: pairs of row and token.
extern "C" __global__ void head_asked(const float *logits, const u32 *asked, float *kept, u32 count, u32 first, u32 width) {
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        u32 token = asked[2 * i + 1];
        if (token >= first && token - first < width) kept[i] = logits[(u64)asked[2 * i] * width + token - first];
    }
}
