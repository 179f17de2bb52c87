// The stand-in's cuTensorMapEncodeTiled: every rule that the driver's documentation names is checked, and told where it is
// broken.
#include "tensor_map.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

using namespace cuda_host;

enum { OK = 0, INVALID_VALUE = 1 };
// The driver's numbers for types of elements, in order, and their bytes.
static const unsigned ELEMENT_BYTES[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
static const unsigned FIRST_FLOAT = 6, TYPES = sizeof ELEMENT_BYTES / sizeof *ELEMENT_BYTES;

static int refused(const char* format, ...) __attribute__((format(printf, 1, 2)));
static int refused(const char* format, ...) {
    va_list list;
    va_start(list, format);
    fputs("cuda_host: cuTensorMapEncodeTiled: ", stderr);
    vfprintf(stderr, format, list);
    fputs("\n", stderr);
    va_end(list);
    return INVALID_VALUE;
}

extern "C" int cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* address, const unsigned long long* extents,
                                      const unsigned long long* strides, const unsigned* box, const unsigned* element_strides,
                                      int interleave, int swizzle, int promotion, int fill) {
    if (!map || (uintptr_t)map % 64 != 0) return refused("the map's place %p is no multiple of 64", map);
    if (type < 0 || (unsigned)type >= TYPES) return refused("there is no type %d, or it is not emulated", type);
    if (interleave < 0 || interleave > 2 || swizzle < 0 || swizzle > SWIZZLE_128B || promotion < 0 || promotion > 3 || fill < 0 ||
        fill > 1)
        return refused("interleave %d, swizzle %d, promotion %d or fill %d is none of the driver's, or not emulated", interleave,
                       swizzle, promotion, fill);
    if (rank == 0 || rank > 5 || (interleave != 0 && rank < 3)) return refused("rank %u", rank);
    if (interleave == 2 && swizzle != SWIZZLE_32B) return refused("interleaved by 32 bytes without a swizzle of 32 bytes");
    if (fill == 1 && (unsigned)type < FIRST_FLOAT) return refused("NaN outside of whole numbers");
    const unsigned element = ELEMENT_BYTES[type], alignment = interleave == 2 ? 32 : 16;
    if (!address || (uintptr_t)address % alignment != 0)
        return refused("the tensor's address %p is no multiple of %u", address, alignment);
    EncodedMap made{};
    made.mark = TENSOR_MAP_MARK, made.address = (uint64_t)address, made.rank = (uint8_t)rank,
    made.element_bytes = (uint8_t)element;
    made.interleave = (uint8_t)interleave, made.swizzle = (uint8_t)swizzle, made.nan_fill = (uint8_t)fill;
    for (unsigned i = 0; i < rank; i++) {
        if (extents[i] == 0 || extents[i] > 1ull << 32) return refused("extent %u is %llu", i, extents[i]);
        if (box[i] == 0 || box[i] > 256) return refused("a box of %u elements in direction %u", box[i], i);
        if (element_strides[i] == 0 || element_strides[i] > 8) return refused("element stride %u is %u", i, element_strides[i]);
        made.extents[i] = (uint32_t)(extents[i] - 1), made.box[i] = (uint16_t)box[i],
        made.element_strides[i] = (uint8_t)element_strides[i];
        if (i + 1 == rank) break;
        if (strides[i] % alignment != 0 || strides[i] >= 1ull << 40) return refused("stride %u of %llu bytes", i, strides[i]);
        if (strides[i] < extents[i] * (i == 0 ? element : strides[i - 1]))
            return refused("stride %u of %llu bytes is less than what it passes", i, strides[i]);
        if (i > 0 && strides[i] % strides[i - 1] != 0) return refused("stride %u is no multiple of the one before", i);
        made.strides[i] = strides[i];
    }
    if (interleave == 0) {
        const unsigned width = box[0] * element, spans[] = {~0u, 32, 64, 128};
        if (width % 16 != 0) return refused("rows of a box of %u bytes, no multiple of 16", width);
        if (width > spans[swizzle]) return refused("rows of a box of %u bytes are longer than the swizzle", width);
        made.element_strides[0] = 1;  // Not looked at.
    }
    memset(map, 0, 128);
    memcpy(map, &made, sizeof made);
    return OK;
}
