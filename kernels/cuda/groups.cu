// groups: the squared errors of quantising in groups of 128 (src/groups.rs, whose arithmetic and order this is).
//
// Half a warp takes a group: thread `i` has the elements `i`, `i + 16`, ... and the sum of their squares; sums are added by
// halves. A group's error becomes a whole number of 2^-360 and enters columns of 32 bits, kept in 64.
//
// Result: groups, groups skipped, and the 22 columns of int8, int4 and fp8-e4m3.

const u32 COLUMNS_OF_ERRORS = 22;

// Reads an element of 8 bits exactly; what is not finite gets the exponent of infinity.
__device__ inline float from_f8(u32 bits, u32 exponent_bits, u32 mantissa_bits) {
    u32 magnitude = bits & 0x7f, exponent = magnitude >> mantissa_bits;
    u32 mantissa = magnitude & ((1u << mantissa_bits) - 1);
    int bias = (1 << (exponent_bits - 1)) - 1;
    u32 infinite = exponent_bits == 4 ? 0x7f : 0x7c;
    float value = exponent == 0 ? (float)mantissa * power_of_two(1 - bias - (int)mantissa_bits)
                                : (float)((1u << mantissa_bits) + mantissa) * power_of_two((int)exponent - bias - (int)mantissa_bits);
    if (magnitude >= infinite) value = __uint_as_float(0x7f800000u);
    return bits & 0x80 ? -value : value;
}

__device__ inline float nearest_whole(float y) { return (y + 12582912.0f) - 12582912.0f; }

__device__ inline float nearest_e4m3(float y) {
    u32 bits = __float_as_uint(y);
    float normal = __uint_as_float((bits + 0x7ffffu + ((bits >> 20) & 1)) & 0xfff00000u);
    float small = (y + 24576.0f) - 24576.0f;
    return (bits & 0x7fffffff) < 0x3c800000u ? small : normal;
}

// Adds the whole part of value * 2^360.
__device__ inline void add_error(u64 *columns, double value) {
    u64 bits = (u64)__double_as_longlong(value);
    int field = (int)(bits >> 52);
    u64 fraction = bits & ((1ull << 52) - 1);
    u64 mantissa = field == 0 ? fraction : fraction | (1ull << 52);
    int shift = (field == 0 ? -1074 : field - 1075) + 360;
    if (shift < 0) {
        mantissa = shift > -64 ? mantissa >> -shift : 0;
        shift = 0;
    }
    if (mantissa == 0) return;
    u32 column = shift / 32, by = shift % 32;
    u64 low = (mantissa & 0xffffffffull) << by, high = (mantissa >> 32) << by;
    atomicAdd(&columns[column], low & 0xffffffffull);
    atomicAdd(&columns[column + 1], (low >> 32) + (high & 0xffffffffull));
    atomicAdd(&columns[column + 2], high >> 32);
}

struct ReadBf16 {
    const u16 *elements;
    __device__ float operator()(u64 at) const { return from_bf16(elements[at]); }
};
struct ReadF16 {
    const u16 *elements;
    __device__ float operator()(u64 at) const { return from_finite_f16(elements[at]); }
};
struct ReadF32 {
    const float *elements;
    __device__ float operator()(u64 at) const { return elements[at]; }
};
struct ReadF8 {
    const u8 *elements;
    u32 exponent_bits;
    __device__ float operator()(u64 at) const { return from_f8(elements[at], exponent_bits, 7 - exponent_bits); }
};

template <class Read>
__device__ inline void groups(Read read, u64 count, u32 not_finite, u64 *result) {
    __shared__ u64 columns[3 * COLUMNS_OF_ERRORS];
    __shared__ u64 taken[2];
    const float SCALE_UP = __uint_as_float(227u << 23);
    u32 thread = threadIdx.x, lane = thread % 16;
    if (thread < 3 * COLUMNS_OF_ERRORS) columns[thread] = 0;
    if (thread < 2) taken[thread] = 0;
    __syncthreads();
    u64 all = (count + 127) / 128;
    for (u64 first = (u64)blockIdx.x * 16; first < all; first += (u64)gridDim.x * 16) {
        u64 group = first + thread / 16;
        float x[8];
        u32 most = 0;
        for (u32 i = 0; i < 8; i++) {
            u64 at = group * 128 + 16 * i + lane;
            x[i] = at < count ? read(at) : 0.0f;
            u32 magnitude = __float_as_uint(x[i]) & 0x7fffffff;
            most = magnitude > most ? magnitude : most;
        }
        for (u32 half = 8; half > 0; half /= 2) {
            u32 other = __shfl_xor_sync(0xffffffffu, most, half);
            most = other > most ? other : most;
        }
        float greatest = __uint_as_float(most), scaled_by = 1.0f;
        if (greatest < __uint_as_float(67u << 23)) {
            for (u32 i = 0; i < 8; i++) x[i] *= SCALE_UP;
            greatest *= SCALE_UP;
            scaled_by = SCALE_UP;
        }
        bool counts = most != 0 && most < not_finite;
        float ratios[3] = {127.0f / greatest, 7.0f / greatest, 448.0f / greatest};
        float sums[3] = {0.0f, 0.0f, 0.0f};
        for (u32 i = 0; i < 8; i++) {
            float a = x[i] * ratios[0], b = x[i] * ratios[1], c = x[i] * ratios[2];
            a -= nearest_whole(a);
            b -= nearest_whole(b);
            c -= nearest_e4m3(c);
            sums[0] += a * a;
            sums[1] += b * b;
            sums[2] += c * c;
        }
        for (u32 half = 8; half > 0; half /= 2)
            for (u32 i = 0; i < 3; i++) sums[i] += __shfl_down_sync(0xffffffffu, sums[i], half, 16);
        if (lane == 0 && group < all) {
            atomicAdd(&taken[most >= not_finite], 1ull);
            for (u32 i = 0; i < 3 && counts; i++) {
                double ratio = (double)ratios[i] * (double)scaled_by;
                add_error(&columns[i * COLUMNS_OF_ERRORS], (double)sums[i] / (ratio * ratio));
            }
        }
    }
    __syncthreads();
    if (thread < 2 && taken[thread] != 0) atomicAdd(&result[thread], taken[thread]);
    if (thread < 3 * COLUMNS_OF_ERRORS && columns[thread] != 0) atomicAdd(&result[2 + thread], columns[thread]);
}

extern "C" __global__ void groups_bf16(const u16 *elements, u64 count, u64 *result) {
    groups(ReadBf16{elements}, count, 0x7f800000u, result);
}

extern "C" __global__ void groups_f16(const u16 *elements, u64 count, u64 *result) {
    groups(ReadF16{elements}, count, 0x47800000u, result);
}

extern "C" __global__ void groups_f32(const float *elements, u64 count, u64 *result) {
    groups(ReadF32{elements}, count, 0x7f800000u, result);
}

extern "C" __global__ void groups_f8(const u8 *elements, u64 count, u64 *result, u32 exponent_bits) {
    groups(ReadF8{elements, exponent_bits}, count, 0x7f800000u, result);
}
