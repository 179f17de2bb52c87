// What the stand-in's cuTensorMapEncodeTiled writes into a tensor map, and its copy engine reads there.
#pragma once

#include <cstdint>

namespace cuda_host {

static const uint64_t TENSOR_MAP_MARK = 0x70616d5f61656c2dull;

struct EncodedMap {
    uint64_t mark, address;
    uint64_t strides[4];  // Bytes, of all directions but the first.
    uint32_t extents[5];  // Less one.
    uint16_t box[5];
    uint8_t element_strides[5];
    uint8_t rank, element_bytes, interleave, swizzle, nan_fill;
};
static_assert(sizeof(EncodedMap) <= 128, "a tensor map has 128 bytes");

// The driver's numbers for swizzles.
enum { SWIZZLE_NONE = 0, SWIZZLE_32B = 1, SWIZZLE_64B = 2, SWIZZLE_128B = 3 };

}  // namespace cuda_host
