// Element by element, four neighbours to a thread: in words of 16 bytes (8 of bf16) where addresses allow, one by one where not, with
// the same bits.
#pragma once
#include "lea.cuh"

namespace lea {

// Whether four elements from here on are one word.
template <class T>
__device__ __forceinline__ bool four_aligned(const T* x) {
    return reinterpret_cast<size_t>(x) % (4 * sizeof(T)) == 0;
}

// y = f(x...), all [len]; y may be one of x. Of a launch of a thread for every four elements.
template <class TO, class F, class... FROM>
__device__ __forceinline__ void map_four(size_t len, TO* y, F f, const FROM*... x) {
    const size_t first = 4 * global_thread();
    if (first + 4 <= len && (four_aligned(y) && ... && four_aligned(x))) {
        const auto map = [&](auto... four) {
            store_four(y + first, make_float4(f(four.x...), f(four.y...), f(four.z...), f(four.w...)));
        };
        map(load4(x + first)...);
    } else {
        for (size_t i = first; i < len && i < first + 4; i++) store_one(y + i, f(x[i]...));
    }
}

}  // namespace lea
