// rows: what is done to rows one by one (src/cpu/rows.rs): norms, rotations, activations, sums.

// Sums over a row go through 8 lanes of f64, added up in order. Every thread of the row's 8 gets the sum.
struct Lanes {
    double *parts;
    __device__ double sum(double own) const {
        __syncthreads();
        parts[threadIdx.x] = own;
        __syncthreads();
        const double *row = parts + threadIdx.x / 8 * 8;
        double sum = row[0];
        for (u32 lane = 1; lane < 8; lane++) sum += row[lane];
        return sum;
    }
};

// Normalises rows in place, 32 of them in a block of 256 threads: by mean and deviation, or by the root mean square.
extern "C" __global__ void normalise(float *x, const float *weight, const float *bias, u32 rows, u32 width, u32 by_mean,
                                     float offset, double epsilon) {
    __shared__ double parts[256];
    Lanes lanes{parts};
    u32 row = blockIdx.x * 32 + threadIdx.x / 8, lane = threadIdx.x % 8;
    float *own = x + (u64)row * width;
    u32 end = row < rows ? width : 0;
    double mean = 0.0, sum = 0.0;
    if (by_mean) {
        for (u32 i = lane; i < end; i += 8) sum += (double)own[i];
        mean = lanes.sum(sum) / (double)width;
        sum = 0.0;
    }
    for (u32 i = lane; i < end; i += 8) {
        double apart = (double)own[i] - mean;
        sum += apart * apart;
    }
    double square = lanes.sum(sum) / (double)width;
    float inverse = (float)(1.0 / sqrt(square + epsilon));
    float middle = (float)mean;
    for (u32 i = lane; i < end; i += 8) {
        float y = (own[i] - middle) * inverse * (weight[i] + offset);
        own[i] = bias ? y + bias[i] : y;
    }
}

// Rotates the heads of rows at their positions, or all at the first one; the table has a position's cosines, then its sines.
extern "C" __global__ void rotate(float *x, const float *table, const u32 *positions, u32 rows, u32 heads, u32 half) {
    u64 all = (u64)rows * heads * half;
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < all; at += (u64)gridDim.x * blockDim.x) {
        u32 i = at % half;
        u64 head = at / half;
        const float *angles = table + (positions ? (u64)positions[head / heads] * half * 2 : 0);
        float *first = x + head * half * 2 + i;
        float a = first[0], b = first[half], cosine = angles[i], sine = angles[half + i];
        first[0] = a * cosine - b * sine;
        first[half] = b * cosine + a * sine;
    }
}

__device__ inline float activated(float x, u32 kind) {
    if (kind == 0) return x * sigmoid(x);
    if (kind == 1) return x * sigmoid(1.595769f * (x + 0.044715f * x * x * x));
    return 0.5f * x * (1.0f + error_function(x * 0.707106781186547524400844362104849039f));
}

// Applies silu, gelu by tangent or gelu by error function, and multiplies by a partner where there is one.
extern "C" __global__ void activate(float *x, const float *partner, u64 count, u32 kind) {
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (u64)gridDim.x * blockDim.x) {
        float y = activated(x[at], kind);
        x[at] = partner ? y * partner[at] : y;
    }
}

extern "C" __global__ void add(float *to, const float *from, u64 count) {
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (u64)gridDim.x * blockDim.x) to[at] += from[at];
}

extern "C" __global__ void copy(float *to, const float *from, u64 count) {
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (u64)gridDim.x * blockDim.x) to[at] = from[at];
}
