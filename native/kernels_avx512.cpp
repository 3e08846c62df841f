// Compiled with AVX-512BW switched on, so nothing here may be called before kernels.cpp has looked
// at the processor; it keeps to intrinsics, so that no other file inherits such code from it.
#include <immintrin.h>

#include "kernels.hpp"

namespace modelwright {
namespace {

void classify(const std::uint8_t* text, std::size_t n_blocks, AsciiMasks* masks) {
  const __m512i case_bit = _mm512_set1_epi8(0x20);
  const __m512i first_letter = _mm512_set1_epi8('a');
  const __m512i n_letters = _mm512_set1_epi8(26);
  const __m512i first_digit = _mm512_set1_epi8('0');
  const __m512i n_digits = _mm512_set1_epi8(10);
  const __m512i first_control = _mm512_set1_epi8('\t');
  const __m512i n_controls = _mm512_set1_epi8('\r' - '\t' + 1);
  const __m512i blank = _mm512_set1_epi8(' ');
  const __m512i quote = _mm512_set1_epi8('\'');
  for (std::size_t block = 0; block < n_blocks; ++block, text += kBlockBytes) {
    const __m512i bytes = _mm512_loadu_si512(text);
    const __m512i small = _mm512_or_si512(bytes, case_bit);
    AsciiMasks& out = masks[block];
    out.letters = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(small, first_letter), n_letters);
    out.numbers = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, first_digit), n_digits);
    out.blanks = _mm512_cmpeq_epi8_mask(bytes, blank);
    out.spaces = out.blanks |
                 _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, first_control), n_controls);
    out.quotes = _mm512_cmpeq_epi8_mask(bytes, quote);
    out.non_ascii = _mm512_movepi8_mask(bytes);
  }
}

std::uint32_t smallest(const std::uint32_t* numbers, std::size_t n) {
  __m512i least = _mm512_loadu_si512(numbers);
  for (std::size_t i = 16; i < n; i += 16) {
    least = _mm512_min_epu32(least, _mm512_loadu_si512(numbers + i));
  }
  return _mm512_reduce_min_epu32(least);
}

}  // namespace

const Kernels kAvx512Kernels{"avx512", classify, smallest};

}  // namespace modelwright
