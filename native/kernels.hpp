// The few loops for which vector instructions pay, and the choice between their editions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace modelwright {

inline constexpr std::size_t kBlockBytes = 64;

// What the ASCII bytes of 64 bytes of text are: bit i tells about byte i.
struct AsciiMasks {
  std::uint64_t letters;
  std::uint64_t numbers;
  std::uint64_t spaces;  // every ASCII white space
  std::uint64_t blanks;  // U+0020 alone
  std::uint64_t quotes;  // the apostrophe
  std::uint64_t non_ascii;
};

struct Kernels {
  const char* name;
  // Fills `masks` for `n_blocks` blocks of text.
  void (*classify)(const std::uint8_t* text, std::size_t n_blocks, AsciiMasks* masks);
  // The smallest of `n` numbers; n is a multiple of 16.
  std::uint32_t (*smallest)(const std::uint32_t* numbers, std::size_t n);
};

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

// The best of them that this processor runs and MODELWRIGHT_SIMD allows ("portable", "avx2" or
// "avx512"; anything else counts as unset). Chosen once.
const Kernels& kernels();

}  // namespace modelwright
