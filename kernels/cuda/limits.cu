// limits: what a device can do at most, for others to be compared with. Results are of no use.

// Reads words.
extern "C" __global__ void read_words(const Words *words, u64 count, u32 *result) {
    u32 sum = 0;
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (u64)gridDim.x * blockDim.x) {
        Words own = words[at];
        sum ^= own.at[0] ^ own.at[1] ^ own.at[2] ^ own.at[3];
    }
    if (sum == 0x9e3779b9u) result[0] = sum;
}

// Fused multiply-adds in registers: 64 in a round of each thread.
extern "C" __global__ void fused_rounds(u32 rounds, float factor, float term, float *result) {
    float sums[64];
    for (u32 i = 0; i < 64; i++) sums[i] = (float)i;
    for (u32 round = 0; round < rounds; round++)
#pragma unroll
        for (u32 i = 0; i < 64; i++) sums[i] = fmaf(sums[i], factor, term);
    float sum = 0.0f;
    for (u32 i = 0; i < 64; i++) sum += sums[i];
    if (sum == 0.5f) result[0] = sum;
}

__device__ inline void matrix_step(float (&sums)[4], u32 bits) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%4,%4,%4}, {%4,%4}, {%0,%1,%2,%3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(bits));
}

// Products of bfloat16 by matrix units, in registers: 8 of 16 x 8 x 16 in a round of each warp.
extern "C" __global__ void matrix_rounds(u32 rounds, u32 bits, float *result) {
    float sums[8][4];
    for (u32 i = 0; i < 8; i++)
        for (u32 j = 0; j < 4; j++) sums[i][j] = 0.0f;
    for (u32 round = 0; round < rounds; round++)
#pragma unroll
        for (u32 i = 0; i < 8; i++) matrix_step(sums[i], bits + i);
    float sum = 0.0f;
    for (u32 i = 0; i < 8; i++)
        for (u32 j = 0; j < 4; j++) sum += sums[i][j];
    if (sum == 0.5f) result[0] = sum;
}
