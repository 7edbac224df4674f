// units: what a device has instructions for and C++ has no words. host.cpp has the same functions for the processor.

// Begins to copy 16 bytes into shared memory; both places are at multiples of 16.
__device__ inline void begin_copy(void *to, const void *from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from)
                 : "memory");
}

// Ends a group of the thread's copies.
__device__ inline void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most so many of the thread's latest groups are under way.
template <int GROUPS>
__device__ inline void wait_for_groups() {
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

// Reads an F16.
__device__ inline float from_f16(u16 bits) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}

// Loads four matrices of 8 x 8 elements of 16 bits: each thread of a warp says where a row is, by eights for each matrix, and
// gets of each two neighbours, those of row lane / 4.
__device__ inline void load_matrices(const void *row, u32 (&to)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((u32)__cvta_generic_to_shared(row))
                 : "memory");
}

// Adds to 16 x 8 sums the products of 16 x 16 and 16 x 8 elements of bfloat16, a warp together.
__device__ inline void mma_bf16(float (&sums)[4], const u32 (&a)[4], u32 first, u32 second) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(first), "r"(second));
}
