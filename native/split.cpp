#include "split.hpp"

#include <array>
#include <cstdint>

#include "unicode_tables.hpp"

namespace modelwright {
namespace {

enum CharacterClass : std::uint8_t { kOther = 0, kLetter = 1, kNumber = 2, kSpace = 3 };

constexpr std::uint32_t kCodePoints = 0x110000;
constexpr std::uint8_t kFirstNonAscii = 0x80;

// Two bits a code point, four code points a byte.
class ClassTable {
 public:
  constexpr ClassTable() : packed_{} {
    mark(kLetterRanges, kLetter);
    mark(kNumberRanges, kNumber);
    mark(kSpaceRanges, kSpace);
  }

  constexpr CharacterClass operator[](std::uint32_t code_point) const {
    return static_cast<CharacterClass>((packed_[code_point / 4] >> (2 * (code_point % 4))) & 3);
  }

 private:
  template <std::size_t n_ranges>
  constexpr void mark(const CodePointRange (&ranges)[n_ranges], CharacterClass character_class) {
    for (const CodePointRange& range : ranges) {
      for (std::uint32_t code_point = range.first; code_point <= range.last; ++code_point) {
        packed_[code_point / 4] |= character_class << (2 * (code_point % 4));
      }
    }
  }

  std::array<std::uint8_t, kCodePoints / 4> packed_;
};

constexpr ClassTable kClasses;

constexpr std::array<CharacterClass, kFirstNonAscii> kAsciiClasses = [] {
  std::array<CharacterClass, kFirstNonAscii> classes{};
  for (std::uint32_t byte = 0; byte < kFirstNonAscii; ++byte) classes[byte] = kClasses[byte];
  return classes;
}();

struct Character {
  CharacterClass character_class;
  std::uint8_t n_bytes;
};

constexpr Character kInvalidByte{kOther, 1};

bool is_continuation(std::uint8_t byte) { return (byte & 0xC0) == 0x80; }

// The character at `at`, which is before `end` and holds a non-ASCII byte.
Character read_non_ascii(const std::uint8_t* at, const std::uint8_t* end) {
  const std::uint8_t lead = at[0];
  const std::ptrdiff_t n_left = end - at;
  if (lead < 0xE0) {
    if (lead < 0xC2 || n_left < 2 || !is_continuation(at[1])) return kInvalidByte;
    return {kClasses[(lead & 0x1Fu) << 6 | (at[1] & 0x3Fu)], 2};
  }
  if (lead < 0xF0) {
    if (n_left < 3 || !is_continuation(at[1]) || !is_continuation(at[2])) return kInvalidByte;
    const std::uint32_t code_point =
        (lead & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
    const bool is_overlong = code_point < 0x800;
    if (is_overlong) return kInvalidByte;
    return {kClasses[code_point], 3};  // a surrogate's class is kOther, as that of its three bytes
  }
  if (lead > 0xF4 || n_left < 4 || !is_continuation(at[1]) || !is_continuation(at[2]) ||
      !is_continuation(at[3])) {
    return kInvalidByte;
  }
  const std::uint32_t code_point =
      (lead & 0x07u) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu);
  const bool is_overlong = code_point < 0x10000;
  if (is_overlong || code_point >= kCodePoints) return kInvalidByte;
  return {kClasses[code_point], 4};
}

Character read_character(const std::uint8_t* at, const std::uint8_t* end) {
  if (*at < kFirstNonAscii) return {kAsciiClasses[*at], 1};
  return read_non_ascii(at, end);
}

// '(?:[sdmt]|ll|ve|re) at a quote: the length of the match, or 0.
std::size_t contraction_length(const std::uint8_t* at, const std::uint8_t* end) {
  if (end - at < 2) return 0;
  const std::uint8_t first = at[1];
  if (first == 's' || first == 'd' || first == 'm' || first == 't') return 2;
  if (end - at < 3) return 0;
  const std::uint8_t second = at[2];
  const bool matches = (first == 'l' && second == 'l') || (first == 'v' && second == 'e') ||
                       (first == 'r' && second == 'e');
  return matches ? 3 : 0;
}

const std::uint8_t* run_end(const std::uint8_t* at, const std::uint8_t* end,
                            CharacterClass wanted) {
  while (at < end) {
    const Character character = read_character(at, end);
    if (character.character_class != wanted) break;
    at += character.n_bytes;
  }
  return at;
}

// \s+(?!\S)|\s+ at white space: all of it at the end of the text; before anything else all but the
// last character, which is left to lead the next piece, unless it is the only one.
const std::uint8_t* space_end(const std::uint8_t* at, const std::uint8_t* end) {
  const std::uint8_t* const start = at;
  const std::uint8_t* last = at;
  while (at < end) {
    const Character character = read_character(at, end);
    if (character.character_class != kSpace) return last == start ? at : last;
    last = at;
    at += character.n_bytes;
  }
  return end;
}

}  // namespace

std::size_t piece_end(std::string_view text, std::size_t start) {
  const auto* const begin = reinterpret_cast<const std::uint8_t*>(text.data());
  const std::uint8_t* const end = begin + text.size();
  const std::uint8_t* at = begin + start;
  if (*at == '\'') {
    if (const std::size_t n_bytes = contraction_length(at, end)) return start + n_bytes;
  }
  const bool leads_a_run = *at == ' ' && at + 1 < end;
  const std::uint8_t* const body = leads_a_run ? at + 1 : at;
  const Character first = read_character(body, end);
  if (first.character_class == kSpace) return space_end(at, end) - begin;
  return run_end(body + first.n_bytes, end, first.character_class) - begin;
}

}  // namespace modelwright
