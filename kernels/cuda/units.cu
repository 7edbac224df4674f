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
