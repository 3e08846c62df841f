#include "kernels.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

namespace modelwright {
namespace {

const Kernels& choose() {
  const char* const wanted = std::getenv("MODELWRIGHT_SIMD");
  const auto allows = [wanted](const Kernels& kernels) {
    if (wanted == nullptr) return true;
    const bool names_one = std::strcmp(wanted, "portable") == 0 ||
                           std::strcmp(wanted, "avx2") == 0 || std::strcmp(wanted, "avx512") == 0;
    return !names_one || std::strcmp(wanted, kernels.name) == 0;
  };
  static_cast<void>(allows);
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (allows(kAvx512Kernels) && __builtin_cpu_supports("avx512bw")) return kAvx512Kernels;
  if (allows(kAvx2Kernels) && __builtin_cpu_supports("avx2")) return kAvx2Kernels;
#endif
  return kPortableKernels;
}

// One bit a question, as a byte a character.
enum Question : std::uint8_t {
  kIsLetter = 1,
  kIsNumber = 2,
  kIsSpace = 4,
  kIsBlank = 8,
  kIsQuote = 16,
  kIsNonAscii = 32,
};

constexpr std::array<std::uint8_t, 256> kAnswers = [] {
  std::array<std::uint8_t, 256> answers{};
  for (int byte = 0; byte < 256; ++byte) {
    const int small = byte | 0x20;
    if (small >= 'a' && small <= 'z' && byte < 0x80) answers[byte] |= kIsLetter;
    if (byte >= '0' && byte <= '9') answers[byte] |= kIsNumber;
    if (byte == ' ' || (byte >= '\t' && byte <= '\r')) answers[byte] |= kIsSpace;
    if (byte == ' ') answers[byte] |= kIsBlank;
    if (byte == '\'') answers[byte] |= kIsQuote;
    if (byte >= 0x80) answers[byte] |= kIsNonAscii;
  }
  return answers;
}();

// Bit `question` of each of eight answers, side by side: a multiplication moves byte i's lowest bit
// to bit 56 + i.
std::uint64_t gather(std::uint64_t answers, int bit) {
  constexpr std::uint64_t kLowestBits = 0x0101010101010101;
  constexpr std::uint64_t kToTheTop = 0x0102040810204080;
  return ((answers >> bit & kLowestBits) * kToTheTop) >> 56;
}

void classify(const std::uint8_t* text, std::size_t n_blocks, AsciiMasks* masks) {
  for (std::size_t block = 0; block < n_blocks; ++block, text += kBlockBytes) {
    AsciiMasks out{};
    for (std::size_t i = 0; i < kBlockBytes; i += 8) {
      std::uint64_t answers = 0;
      for (int byte = 7; byte >= 0; --byte) answers = answers << 8 | kAnswers[text[i + byte]];
      out.letters |= gather(answers, 0) << i;
      out.numbers |= gather(answers, 1) << i;
      out.spaces |= gather(answers, 2) << i;
      out.blanks |= gather(answers, 3) << i;
      out.quotes |= gather(answers, 4) << i;
      out.non_ascii |= gather(answers, 5) << i;
    }
    masks[block] = out;
  }
}

std::uint32_t smallest(const std::uint32_t* numbers, std::size_t n) {
  std::uint32_t least = numbers[0];
  for (std::size_t i = 1; i < n; ++i) least = std::min(least, numbers[i]);
  return least;
}

}  // namespace

const Kernels kPortableKernels{"portable", classify, smallest};

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace modelwright
