// tally: one pass over elements, into integers (src/tally.rs).
//
// A block counts into four tables in shared memory, of 32-bit words that cannot overflow before they are emptied, into 64
// bits that each thread keeps for its own bins. Integers only, so no order shows.
//
// Result: for each bin its count, sum of mantissas, and of their squares the lower 23 bits and what is above them, as four
// words of 64 bits; then positive and negative zeros, infinities, and what is no number; then, 0 for none, 2^32 less the
// order of the least number, and one more than the order of the greatest.

const u32 TALLY_THREADS = 256;
const u32 TALLY_TABLES = 4;

template <int EXPONENT, int MANTISSA>
__device__ inline void tally_element(u32 bits, u32 *table, u32 (&special)[6], u32 &least, u32 &greatest) {
    const u32 BINS = 2u << EXPONENT;
    const u32 SIGN = 1u << (EXPONENT + MANTISSA);
    const u32 INFINITE = SIGN - (1u << MANTISSA);
    u32 magnitude = bits & (SIGN - 1), negative = bits >> (EXPONENT + MANTISSA);
    u32 mantissa = bits & ((1u << MANTISSA) - 1), bin = bits >> MANTISSA;
    atomicAdd(&table[bin], 1u);
    if (magnitude < INFINITE) {
        atomicAdd(&table[BINS + bin], mantissa);
        if (MANTISSA > 16) {
            u64 square = (u64)mantissa * mantissa;
            atomicAdd(&table[2 * BINS + bin], (u32)square & 0x7fffffu);
            atomicAdd(&table[3 * BINS + bin], (u32)(square >> 23));
        } else {
            atomicAdd(&table[2 * BINS + bin], mantissa * mantissa);
        }
        special[negative] += magnitude == 0;
    } else {
        special[(magnitude == INFINITE ? 2 : 4) + negative] += 1;
    }
    if (magnitude <= INFINITE) {
        u32 order = negative ? ~bits & (SIGN | (SIGN - 1)) : bits | SIGN;
        least = order < least ? order : least;
        greatest = order > greatest ? order : greatest;
    }
}

// ROUNDS vectors of each thread fill a table's words at most.
template <int EXPONENT, int MANTISSA, int ROUNDS>
__device__ inline void tally(const void *elements, u64 count, u64 *result) {
    const u32 BINS = 2u << EXPONENT;
    const u32 SUMS = MANTISSA > 16 ? 4 : 3;
    const u32 OWN = (BINS + TALLY_THREADS - 1) / TALLY_THREADS;
    const u32 HELD = MANTISSA > 16 ? 4 : 8; // Elements of a vector.
    __shared__ u32 tables[TALLY_TABLES][SUMS * BINS];
    __shared__ u32 ends[2];
    u32 thread = threadIdx.x;
    for (u32 i = thread; i < TALLY_TABLES * SUMS * BINS; i += TALLY_THREADS) tables[i / (SUMS * BINS)][i % (SUMS * BINS)] = 0;
    if (thread == 0) ends[0] = 0xffffffffu, ends[1] = 0;
    __syncthreads();
    u32 *table = tables[thread / (TALLY_THREADS / TALLY_TABLES)];
    u64 own[OWN][SUMS];
    for (u32 i = 0; i < OWN; i++)
        for (u32 sum = 0; sum < SUMS; sum++) own[i][sum] = 0;
    u32 special[6] = {0, 0, 0, 0, 0, 0};
    u32 least = 0xffffffffu, greatest = 0;
    const u64 stride = (u64)gridDim.x * TALLY_THREADS * ROUNDS * HELD;
    for (u64 first = (u64)blockIdx.x * TALLY_THREADS * ROUNDS * HELD; first < count; first += stride) {
#pragma unroll 1
        for (u32 round = 0; round < ROUNDS; round++) {
            u64 at = first + (u64)(round * TALLY_THREADS + thread) * HELD;
            if (at + HELD <= count) {
                Words words = ((const Words *)elements)[at / HELD];
                for (u32 i = 0; i < 4; i++) {
                    if (MANTISSA > 16) {
                        tally_element<EXPONENT, MANTISSA>(words.at[i], table, special, least, greatest);
                    } else {
                        tally_element<EXPONENT, MANTISSA>(words.at[i] & 0xffff, table, special, least, greatest);
                        tally_element<EXPONENT, MANTISSA>(words.at[i] >> 16, table, special, least, greatest);
                    }
                }
            } else {
                for (; at < count; at++) {
                    u32 bits = MANTISSA > 16 ? ((const u32 *)elements)[at] : ((const u16 *)elements)[at];
                    tally_element<EXPONENT, MANTISSA>(bits, table, special, least, greatest);
                }
            }
        }
        __syncthreads();
        for (u32 i = 0; i < OWN; i++) {
            u32 bin = i * TALLY_THREADS + thread;
            if (bin >= BINS) break;
            for (u32 sum = 0; sum < SUMS; sum++)
                for (u32 t = 0; t < TALLY_TABLES; t++) {
                    own[i][sum] += tables[t][sum * BINS + bin];
                    tables[t][sum * BINS + bin] = 0;
                }
        }
        __syncthreads();
    }
    for (u32 i = 0; i < OWN; i++) {
        u32 bin = i * TALLY_THREADS + thread;
        for (u32 sum = 0; sum < SUMS; sum++)
            if (bin < BINS && own[i][sum] != 0) atomicAdd(&result[4 * bin + sum], own[i][sum]);
    }
    u64 *rest = result + 4 * BINS;
    for (u32 i = 0; i < 6; i++)
        if (special[i] != 0) atomicAdd(&rest[i], (u64)special[i]);
    atomicMin(&ends[0], least);
    atomicMax(&ends[1], greatest);
    __syncthreads();
    if (thread == 0 && ends[0] <= ends[1]) {
        atomicMax(&rest[6], 0x100000000ull - ends[0]);
        atomicMax(&rest[7], 1ull + ends[1]);
    }
}

extern "C" __global__ void tally_bf16(const void *elements, u64 count, u64 *result) { tally<8, 7, 8>(elements, count, result); }

extern "C" __global__ void tally_f16(const void *elements, u64 count, u64 *result) { tally<5, 10, 8>(elements, count, result); }

extern "C" __global__ void tally_f32(const void *elements, u64 count, u64 *result) { tally<8, 23, 2>(elements, count, result); }

// How often each byte occurs: all there is to know of elements of 8 bits.
extern "C" __global__ void count_bytes(const u8 *elements, u64 count, u64 *result) {
    __shared__ u32 tables[8][256];
    u32 thread = threadIdx.x;
    for (u32 i = 0; i < 8; i++) tables[i][thread] = 0;
    __syncthreads();
    u32 *table = tables[thread / 32];
    const u64 stride = (u64)gridDim.x * 256 * 16;
    for (u64 at = ((u64)blockIdx.x * 256 + thread) * 16; at < count; at += stride) {
        if (at + 16 <= count) {
            Words words = *(const Words *)(elements + at);
            for (u32 i = 0; i < 4; i++)
                for (u32 shift = 0; shift < 32; shift += 8) atomicAdd(&table[(words.at[i] >> shift) & 255], 1u);
        } else {
            for (u64 i = at; i < count; i++) atomicAdd(&table[elements[i]], 1u);
        }
    }
    __syncthreads();
    u64 sum = 0;
    for (u32 i = 0; i < 8; i++) sum += tables[i][thread];
    if (sum != 0) atomicAdd(&result[thread], sum);
}
