// Compiled with AVX2 switched on; see kernels_avx512.cpp for what that asks of this file.
#include <immintrin.h>

#include "kernels.hpp"

namespace modelwright {
namespace {

struct Half {
  std::uint32_t letters, numbers, spaces, blanks, quotes, non_ascii;
};

inline std::uint32_t bits(__m256i mask) {
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(mask));
}

// Whether each byte is in a range; comparisons are of signed bytes, so the range moves to the bottom.
inline __m256i in_range(__m256i bytes, char first, char last) {
  const __m256i moved = _mm256_add_epi8(bytes, _mm256_set1_epi8(static_cast<char>(-128 - first)));
  return _mm256_cmpgt_epi8(_mm256_set1_epi8(static_cast<char>(-128 + last - first + 1)), moved);
}

inline Half classify_half(const std::uint8_t* text) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(text));
  const __m256i small = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
  const __m256i blanks = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(' '));
  return {bits(in_range(small, 'a', 'z')),
          bits(in_range(bytes, '0', '9')),
          bits(_mm256_or_si256(blanks, in_range(bytes, '\t', '\r'))),
          bits(blanks),
          bits(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('\''))),
          bits(bytes)};
}

inline std::uint64_t join(std::uint32_t low, std::uint32_t high) {
  return static_cast<std::uint64_t>(high) << 32 | low;
}

void classify(const std::uint8_t* text, std::size_t n_blocks, AsciiMasks* masks) {
  for (std::size_t block = 0; block < n_blocks; ++block, text += kBlockBytes) {
    const Half low = classify_half(text);
    const Half high = classify_half(text + kBlockBytes / 2);
    masks[block] = {join(low.letters, high.letters), join(low.numbers, high.numbers),
                    join(low.spaces, high.spaces),   join(low.blanks, high.blanks),
                    join(low.quotes, high.quotes),   join(low.non_ascii, high.non_ascii)};
  }
}

std::uint32_t smallest(const std::uint32_t* numbers, std::size_t n) {
  const auto load = [numbers](std::size_t i) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers + i));
  };
  __m256i least = load(0);
  for (std::size_t i = 8; i < n; i += 8) least = _mm256_min_epu32(least, load(i));
  __m128i half =
      _mm_min_epu32(_mm256_castsi256_si128(least), _mm256_extracti128_si256(least, 1));
  half = _mm_min_epu32(half, _mm_shuffle_epi32(half, 0x4E));
  half = _mm_min_epu32(half, _mm_shuffle_epi32(half, 0xB1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(half));
}

}  // namespace

const Kernels kAvx2Kernels{"avx2", classify, smallest};

}  // namespace modelwright
