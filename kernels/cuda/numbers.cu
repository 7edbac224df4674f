// What every kernel stands on: names of widths, formats, and functions whose bits are those of the CPU.
//
// All of these files are compiled as one, in the order that generate.py names, without any include and without
// contraction: an operation is rounded where the CPU rounds it, and fused only where `fmaf` says so.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

static_assert(sizeof(u64) == 8 && sizeof(u32) == 4, "widths");

// Four words that are loaded at once.
struct alignas(16) Words {
    u32 at[4];
};

// Four numbers that are loaded at once.
struct alignas(16) Floats {
    float at[4];
};

// Formats of weights, as the host numbers them.
enum Format { BF16 = 0, F16 = 1, F32 = 2 };

__device__ inline float from_bf16(u16 bits) { return __uint_as_float((u32)bits << 16); }

// Reads a finite F16 exactly; one that is not finite becomes 65536 or more in magnitude, whatever its sign.
__device__ inline float from_finite_f16(u16 bits) {
    float magnitude = __uint_as_float((u32)(bits & 0x7fff) << 13) * __uint_as_float(0x77800000u);
    return __uint_as_float(__float_as_uint(magnitude) | ((u32)(bits & 0x8000) << 16));
}

// Reads an F16: units.cu.
__device__ inline float from_f16(u16 bits);

// Reads an element of weights.
template <int FORMAT>
__device__ inline float widen(const void *weights, u64 at) {
    if (FORMAT == BF16) return from_bf16(((const u16 *)weights)[at]);
    if (FORMAT == F16) return from_f16(((const u16 *)weights)[at]);
    return ((const float *)weights)[at];
}

// Rounds to bfloat16, ties to even, if that is asked for. What is not a number stays so.
__device__ inline float rounded(float x, u32 to_bf16) {
    u32 bits = __float_as_uint(x);
    u32 nearest = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
    return to_bf16 && x == x ? __uint_as_float(nearest) : x;
}

// e to the power of x: additions and multiplications of cpu/exponential.rs, in its order.
__device__ inline float exponential(float x) {
    const float ROUNDING = 12582912.0f;
    float held = x < -87.3f ? -87.3f : x;
    held = held > 88.0f ? 88.0f : held;
    float shifted = held * 1.44269504088896340736f + ROUNDING;
    float whole = shifted - ROUNDING;
    float rest = held - whole * 0.6933594f - whole * -2.1219444e-4f;
    float sum = 1.0f / 5040.0f;
    sum = sum * rest + 1.0f / 720.0f;
    sum = sum * rest + 1.0f / 120.0f;
    sum = sum * rest + 1.0f / 24.0f;
    sum = sum * rest + 1.0f / 6.0f;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    u32 exponent = __float_as_uint(shifted) - __float_as_uint(ROUNDING);
    float scale = __uint_as_float((exponent + 127u) << 23);
    return x < -87.3f ? 0.0f : sum * scale;
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
