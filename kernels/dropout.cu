// Inverted dropout: y = 0 where the mask drops the element, else scale x; x, y [len]. The mask is Philox 4x32-10 (Salmon et
// al., SC 2011) by place: in each group of 64 elements, element j takes word j / 16 of block j % 16, bit for bit as on the
// CPU. One thread an element. Bound by arithmetic: ten rounds of two wide products.
#include "common/lea.cuh"

KERNEL(256, lea_dropout_forward, size_t len, float scale, unsigned threshold, size_t seed, size_t counter, const float* x,
       float* y) {
    const size_t i = lea::global_thread();
    if (i >= len) return;
    // Sixteen blocks a group.
    const size_t block = (i / 64) * 16 + i % 16;
    unsigned words[4] = {(unsigned)block, (unsigned)(block >> 32), (unsigned)counter, (unsigned)(counter >> 32)};
    unsigned key[2] = {(unsigned)seed, (unsigned)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        const unsigned p_high = __umulhi(words[0], 0xd2511f53u), p_low = words[0] * 0xd2511f53u;
        const unsigned q_high = __umulhi(words[2], 0xcd9e8d57u), q_low = words[2] * 0xcd9e8d57u;
        words[0] = q_high ^ words[1] ^ key[0];
        words[2] = p_high ^ words[3] ^ key[1];
        words[1] = q_low;
        words[3] = p_low;
        key[0] += 0x9e3779b9u;
        key[1] += 0xbb67ae85u;
    }
    const unsigned which = (unsigned)(i % 64) / 16;
    const unsigned word = which < 2 ? (which == 0 ? words[0] : words[1]) : (which == 2 ? words[2] : words[3]);
    y[i] = word < threshold ? 0.0f : scale * x[i];
}
