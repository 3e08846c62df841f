// Characters of UTF-8 text and what kind each is.
//
// A byte that is not part of a well-formed sequence (Unicode 15.0, table 3-7: so no overlong forms,
// no surrogates, nothing above U+10FFFF) counts as one character of no particular kind. This is how
// a split pattern sees what Python's bytes.decode("utf-8", "surrogateescape") returns.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace modelwright {

// One bit a kind; a code point has at most one of them.
enum Kind : std::uint8_t {
  kOther = 0,
  kCapital = 1,   // Lu, Lt
  kSmall = 2,     // Ll
  kCaseless = 4,  // Lm, Lo
  kMark = 8,      // M
  kNumber = 16,   // N
  kSpace = 32,
};
inline constexpr std::uint8_t kLetter = kCapital | kSmall | kCaseless;

struct Character {
  std::uint8_t kind;
  std::uint8_t n_bytes;
};

inline constexpr std::uint8_t kFirstNonAscii = 0x80;

// The kind of each ASCII character.
extern const std::array<std::uint8_t, kFirstNonAscii> kAsciiKinds;

// The kinds of the code points up to U+FFFF.
extern const std::uint8_t* const kFirstPlaneKinds;

// The character at `at`, which is before `end` and holds a non-ASCII byte; any such text.
Character read_any_non_ascii(const std::uint8_t* at, const std::uint8_t* end);

// The same, quick for most characters.
inline Character read_non_ascii(const std::uint8_t* at, const std::uint8_t* end) {
  if (end - at >= 3) {
    const std::uint32_t lead = at[0], second = at[1] ^ 0x80u, third = at[2] ^ 0x80u;
    if (lead - 0xC2 < 0x1E && second < 0x40) {
      return {kFirstPlaneKinds[(lead & 0x1F) << 6 | second], 2};
    }
    const std::uint32_t code_point = (lead & 0x0F) << 12 | second << 6 | third;
    const bool is_whole = (lead & 0xF0) == 0xE0 && (second | third) < 0x40;
    if (is_whole && code_point >= 0x800 && code_point - 0xD800 >= 0x800) {
      return {kFirstPlaneKinds[code_point], 3};
    }
  }
  return read_any_non_ascii(at, end);
}

inline Character read_character(const std::uint8_t* at, const std::uint8_t* end) {
  if (*at < kFirstNonAscii) return {kAsciiKinds[*at], 1};
  return read_non_ascii(at, end);
}

}  // namespace modelwright
