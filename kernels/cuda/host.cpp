// The kernels on a processor, for tests where there is no GPU: a device that obeys commands on its standard input.
//
// Blocks run one after the other. The threads of a block are contexts of one thread of the system, which run in turn from one
// barrier to the next; a shuffle is two barriers, so all threads of a block have to take part in it, as all kernels here do.
// What is in order on a GPU is in order here, and arithmetic is IEEE 754's in both, so results are the same to the last bit;
// how fast they are, and races within a block between two barriers, do not show.
//
//     g++ -std=c++17 -O2 -march=native -ffp-contract=off host.cpp -o device
//     ./device BYTES      # how much memory it has

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace device {
const unsigned THREADS_MAX = 256;
const size_t STACK = 256 << 10;
static ucontext_t scheduler, threads[THREADS_MAX];
// A context is entered once, which asks the system; from then on jumps do.
static jmp_buf back, places[THREADS_MAX];
static bool begun[THREADS_MAX], ended[THREADS_MAX];
static char *stacks;
static void (*body)();

static void barrier() {
    if (_setjmp(places[threadIdx.x]) == 0) _longjmp(back, 1);
}

static void enter() {
    body();
    ended[threadIdx.x] = true;
    _longjmp(back, 1);
}

// Lets a thread run to its next barrier, or to its end.
__attribute__((noinline)) static void resume(unsigned thread) {
    threadIdx = {thread, 0, 0};
    if (_setjmp(back) != 0) return;
    if (begun[thread]) _longjmp(places[thread], 1);
    begun[thread] = true;
    swapcontext(&scheduler, &threads[thread]);
}

// Copies that a thread has begun, with the group each is in. In every second block they are made when they are begun, in the
// others when they are waited for: neither may show.
struct Begun {
    void *to;
    const void *from;
    unsigned group;
};
static std::vector<Begun> begun_copies[THREADS_MAX];
static unsigned groups[THREADS_MAX];
// What the threads of a warp show one another for matrices.
static const uint32_t *rows[THREADS_MAX];
static float fragments[THREADS_MAX][12];

static void make_copies(unsigned groups_left) {
    auto &copies = begun_copies[threadIdx.x];
    size_t kept = 0;
    for (auto &copy : copies) {
        if (copy.group + groups_left < groups[threadIdx.x]) memcpy(copy.to, copy.from, 16);
        else copies[kept++] = copy;
    }
    copies.resize(kept);
}

static void run_block(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        getcontext(&threads[i]);
        threads[i].uc_stack.ss_sp = stacks + i * STACK;
        threads[i].uc_stack.ss_size = STACK;
        threads[i].uc_link = nullptr;
        makecontext(&threads[i], enter, 0);
        begun[i] = ended[i] = false;
        begun_copies[i].clear();
        groups[i] = 0;
    }
    for (unsigned left = count; left > 0;)
        for (unsigned i = 0; i < count; i++) {
            if (ended[i]) continue;
            resume(i);
            left -= ended[i];
        }
}

static uint64_t exchanged[THREADS_MAX];

template <class T>
static T shuffle(T own, unsigned source) {
    memcpy(&exchanged[threadIdx.x], &own, sizeof(T));
    barrier();
    T other;
    memcpy(&other, &exchanged[source], sizeof(T));
    barrier();
    return other;
}

template <class To, class From>
static To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}
} // namespace device

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __syncthreads device::barrier
#define __uint_as_float device::bits<float, uint32_t>
#define __float_as_uint device::bits<uint32_t, float>
#define __double_as_longlong device::bits<long long, double>

template <class T>
static void atomicAdd(T *to, T value) { *to += value; }
template <class T>
static void atomicMin(T *to, T value) { *to = value < *to ? value : *to; }
template <class T>
static void atomicMax(T *to, T value) { *to = value > *to ? value : *to; }
static void atomicOr(uint32_t *to, uint32_t value) { *to |= value; }

template <class T>
static T __shfl_xor_sync(unsigned, T own, unsigned mask) { return device::shuffle(own, threadIdx.x ^ mask); }
template <class T>
static T __shfl_down_sync(unsigned, T own, unsigned by, unsigned width) {
    unsigned within = threadIdx.x % width + by;
    return device::shuffle(own, within < width ? threadIdx.x + by : threadIdx.x);
}

#include "numbers.cu"

// What units.cu has for a device.
static void begin_copy(void *to, const void *from) {
    if (((uintptr_t)to | (uintptr_t)from) % 16 != 0) {
        fprintf(stderr, "16 bytes are copied from %p to %p\n", from, to);
        exit(1);
    }
    if ((blockIdx.x + blockIdx.y + blockIdx.z) % 2 == 0) memcpy(to, from, 16);
    else device::begun_copies[threadIdx.x].push_back({to, from, device::groups[threadIdx.x]});
}
static void end_group() { device::groups[threadIdx.x]++; }
template <int GROUPS>
static void wait_for_groups() { device::make_copies(GROUPS); }

static void load_matrices(const void *row, u32 (&to)[4]) {
    device::rows[threadIdx.x] = (const u32 *)row;
    device::barrier();
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x - lane;
    for (unsigned matrix = 0; matrix < 4; matrix++) to[matrix] = device::rows[warp + matrix * 8 + lane / 4][lane % 4];
    device::barrier();
}

static void mma_bf16(float (&sums)[4], const u32 (&a)[4], u32 first, u32 second) {
    // A thread has, of a, rows lane / 4 and 8 more, first of 8 terms and then of the others; of b, the column lane / 4; of the
    // sums, columns from lane % 4 * 2 on.
    const u32 own[6] = {a[0], a[1], a[2], a[3], first, second};
    for (unsigned i = 0; i < 12; i++) device::fragments[threadIdx.x][i] = from_bf16((u16)(own[i / 2] >> i % 2 * 16));
    device::barrier();
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x - lane;
    auto element = [&](unsigned of, unsigned part, unsigned term) {
        return (double)device::fragments[warp + of * 4 + term % 8 / 2][part * 2 + term % 2];
    };
    for (unsigned i = 0; i < 4; i++) {
        double sum = sums[i];
        for (unsigned term = 0; term < 16; term++)
            sum += element(lane / 4, i / 2 + term / 8 * 2, term) * element(lane % 4 * 2 + i % 2, 4 + term / 8, term);
        // Towards zero, as devices do.
        float nearest = (float)sum;
        sums[i] = fabs(nearest) > fabs(sum) ? nextafterf(nearest, 0.0f) : nearest;
    }
    device::barrier();
}

float from_f16(u16 bits) {
    u32 magnitude = bits & 0x7fff;
    float wide = magnitude >= 0x7c00 ? __uint_as_float(0x7f800000u | (magnitude << 13))
                                     : __uint_as_float(magnitude << 13) * __uint_as_float(0x77800000u);
    return __uint_as_float(__float_as_uint(wide) | ((u32)(bits & 0x8000) << 16));
}

#include "functions.cu"
#include "tally.cu"
#include "groups.cu"
#include "product.cu"
#include "few.cu"
#include "matrix.cu"
#include "attention.cu"
#include "kept.cu"
#include "rows.cu"
#include "head.cu"

namespace device {
static const uint64_t *slots;
static const uint32_t *starts;

// Calls a kernel with arguments that begin at some of the slots.
template <auto KERNEL>
struct Call;
template <class... Parameters, void (*KERNEL)(Parameters...)>
struct Call<KERNEL> {
    template <class T>
    static T argument(unsigned at) {
        T value;
        memcpy(&value, slots + starts[at], sizeof(T));
        return value;
    }
    template <size_t... AT>
    static void call(std::index_sequence<AT...>) { KERNEL(argument<Parameters>(AT)...); }
    static void run() { call(std::index_sequence_for<Parameters...>()); }
};

#define KERNEL(name) {#name, Call<&name>::run}
static const std::map<std::string, void (*)()> kernels = {
    KERNEL(tally_bf16), KERNEL(tally_f16), KERNEL(tally_f32), KERNEL(count_bytes), KERNEL(groups_bf16), KERNEL(groups_f16),
    KERNEL(groups_f32), KERNEL(groups_f8), KERNEL(product_bf16), KERNEL(product_f16), KERNEL(product_f32),
    KERNEL(row_bf16), KERNEL(row_f16), KERNEL(row_f32), KERNEL(few_bf16), KERNEL(few_f16), KERNEL(few_f32),
    KERNEL(to_halves), KERNEL(matrix_bf16),
    KERNEL(attention_scores), KERNEL(attention_weights), KERNEL(attention_values), KERNEL(keep), KERNEL(kept_scores),
    KERNEL(kept_weights), KERNEL(kept_sums), KERNEL(kept_values), KERNEL(kept_heads), KERNEL(normalise), KERNEL(rotate),
    KERNEL(activate), KERNEL(add), KERNEL(copy), KERNEL(head_tops), KERNEL(head_seen), KERNEL(head_asked),
};

static void get(void *to, size_t bytes) {
    if (bytes != 0 && fread(to, 1, bytes, stdin) != bytes) exit(0);
}

template <class T>
static T get() {
    T value;
    get(&value, sizeof(T));
    return value;
}

static void put(const void *from, size_t bytes) { fwrite(from, 1, bytes, stdout); }

static void launch() {
    std::string name(get<uint32_t>(), ' ');
    get(&name[0], name.size());
    gridDim = get<Index>();
    unsigned count = get<uint32_t>();
    std::vector<uint32_t> own_starts(get<uint32_t>());
    get(own_starts.data(), own_starts.size() * 4);
    std::vector<uint64_t> own_slots(get<uint32_t>());
    get(own_slots.data(), own_slots.size() * 8);
    auto kernel = kernels.find(name);
    if (kernel == kernels.end() || count > THREADS_MAX || gridDim.y > 65535 || gridDim.z > 65535) {
        fprintf(stderr, "%s with %u threads cannot be launched\n", name.c_str(), count);
        exit(1);
    }
    body = kernel->second;
    slots = own_slots.data();
    starts = own_starts.data();
    blockDim = {count, 1, 1};
    for (unsigned z = 0; z < gridDim.z; z++)
        for (unsigned y = 0; y < gridDim.y; y++)
            for (unsigned x = 0; x < gridDim.x; x++) {
                blockIdx = {x, y, z};
                run_block(count);
            }
}
} // namespace device

int main(int, char **arguments) {
    uint64_t left = strtoull(arguments[1], nullptr, 10);
    std::map<uint64_t, uint64_t> sizes;
    device::stacks = (char *)malloc(device::THREADS_MAX * device::STACK);
    for (;;) {
        auto command = device::get<uint8_t>();
        if (command == 'a') {
            auto bytes = device::get<uint64_t>();
            uint64_t address = bytes <= left ? (uint64_t)aligned_alloc(256, (bytes + 255) / 256 * 256) : 0;
            if (address != 0) {
                // What was never written must not happen to be zero.
                memset((void *)address, 0x5a, bytes);
                left -= bytes;
                sizes[address] = bytes;
            }
            device::put(&address, 8);
            device::put(&left, 8);
        } else if (command == 'f') {
            auto address = device::get<uint64_t>();
            left += sizes[address];
            sizes.erase(address);
            free((void *)address);
        } else if (command == 'w') {
            auto address = device::get<uint64_t>();
            device::get((void *)address, device::get<uint64_t>());
        } else if (command == 'r') {
            auto address = device::get<uint64_t>();
            device::put((void *)address, device::get<uint64_t>());
        } else if (command == 'z') {
            auto address = device::get<uint64_t>();
            memset((void *)address, 0, device::get<uint64_t>());
        } else if (command == 'l') {
            device::launch();
        }
        if (command == 'a' || command == 'r') fflush(stdout);
    }
}
