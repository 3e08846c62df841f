#include "split.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "characters.hpp"

namespace modelwright {
namespace {

using Bytes = const std::uint8_t*;

constexpr std::size_t kLongestPiece = 0xFFFFFF00;  // ends inside a piece are 32-bit

void check_piece_length(std::size_t n_bytes) {
  if (n_bytes > kLongestPiece) {
    throw std::length_error("the text holds a run of about 4 GiB without a break");
  }
}

// The end of the run of characters of these kinds.
Bytes run_end(Bytes at, Bytes end, std::uint8_t kinds) {
  while (at < end) {
    const Character character = read_character(at, end);
    if ((character.kind & kinds) == 0) break;
    at += character.n_bytes;
  }
  return at;
}

// The end of the run of characters that are neither letter, number nor white space.
Bytes other_end(Bytes at, Bytes end) {
  while (at < end) {
    const Character character = read_character(at, end);
    if ((character.kind & (kLetter | kNumber | kSpace)) != 0) break;
    at += character.n_bytes;
  }
  return at;
}

// Up to `n_most` numbers.
Bytes numbers_end(Bytes at, Bytes end, int n_most) {
  for (; n_most > 0 && at < end; --n_most) {
    const Character character = read_character(at, end);
    if (character.kind != kNumber) break;
    at += character.n_bytes;
  }
  return at;
}

bool is_line_end(std::uint8_t byte) { return byte == '\r' || byte == '\n'; }

// '(?:[sdmt]|ll|ve|re) at a quote: the length of the match, or 0.
std::size_t contraction_length(Bytes at, Bytes end) {
  if (end - at < 2) return 0;
  const std::uint8_t first = at[1];
  if (first == 's' || first == 'd' || first == 'm' || first == 't') return 2;
  if (end - at < 3) return 0;
  const std::uint8_t second = at[2];
  const bool matches = (first == 'l' && second == 'l') || (first == 'v' && second == 'e') ||
                       (first == 'r' && second == 'e');
  return matches ? 3 : 0;
}

// The same in either case, which for s includes the long s, U+017F.
std::size_t caseless_contraction_length(Bytes at, Bytes end) {
  if (end - at < 2 || at[0] != '\'') return 0;
  if (end - at >= 3 && at[1] == 0xC5 && at[2] == 0xBF) return 3;
  std::array<std::uint8_t, 3> small{'\'', 0, 0};
  const std::ptrdiff_t n_bytes = std::min<std::ptrdiff_t>(end - at, 3);
  for (std::ptrdiff_t i = 1; i < n_bytes; ++i) {
    small[i] = at[i] >= 'A' && at[i] <= 'Z' ? at[i] + ('a' - 'A') : at[i];
  }
  return contraction_length(small.data(), small.data() + n_bytes);
}

struct Run {
  Bytes end;
  Bytes last;         // where its last character starts
  Bytes lines_end;    // after its last line end, or null
};

Run space_run(Bytes at, Bytes end) {
  Run run{at, at, nullptr};
  while (run.end < end) {
    const Character character = read_character(run.end, end);
    if (character.kind != kSpace) break;
    run.last = run.end;
    run.end += character.n_bytes;
    if (is_line_end(*run.last)) run.lines_end = run.end;
  }
  return run;
}

// \s+(?!\S)|\s+ on a run of white space: all of it at the end of the text; before anything else all
// but the last character, which is left to lead the next piece, unless it is the only one.
Bytes space_end(const Run& run, Bytes start, Bytes end) {
  return run.end == end || run.last == start ? run.end : run.last;
}

Bytes gpt2_end(Bytes at, Bytes end, bool digits_apart) {
  if (*at == '\'') {
    if (const std::size_t n_bytes = contraction_length(at, end)) return at + n_bytes;
  }
  Character first = read_character(at, end);
  if (digits_apart && first.kind == kNumber) return at + first.n_bytes;
  Bytes body = at;
  if (*at == ' ' && at + 1 < end) {
    const Character next = read_character(at + 1, end);
    if (next.kind != kSpace && !(digits_apart && next.kind == kNumber)) {
      first = next;
      body = at + 1;
    }
  }
  if (first.kind == kSpace) return space_end(space_run(at, end), at, end);
  if ((first.kind & kLetter) != 0) return run_end(body + first.n_bytes, end, kLetter);
  if (first.kind == kNumber) return run_end(body + first.n_bytes, end, kNumber);
  return other_end(body + first.n_bytes, end);
}

//  ?[^\s\p{L}\p{N}]+ and then any of `tail`: the end of the match, or null.
Bytes punctuation_end(Bytes at, Bytes end, std::string_view tail) {
  const Bytes body = *at == ' ' ? at + 1 : at;
  Bytes after = other_end(body, end);
  if (after == body) return nullptr;
  while (after < end && tail.find(static_cast<char>(*after)) != std::string_view::npos) ++after;
  return after;
}

// Llama 3 has cl100k's pattern without its rule that white space at the end of a text is one piece.
Bytes cl100k_end(Bytes at, Bytes end, bool digits_apart, bool end_is_whole) {
  if (const std::size_t n_bytes = caseless_contraction_length(at, end)) return at + n_bytes;
  const Character first = read_character(at, end);
  const Bytes second = at + first.n_bytes;
  if ((first.kind & kLetter) != 0) return run_end(second, end, kLetter);
  if (first.kind == kNumber) return digits_apart ? second : numbers_end(at, end, 3);
  if (!is_line_end(*at)) {
    const Bytes after = run_end(second, end, kLetter);
    if (after > second) return after;
  }
  if (const Bytes after = punctuation_end(at, end, "\r\n")) return after;
  const Run run = space_run(at, end);
  if (run.end == end && end_is_whole) return end;
  return run.lines_end != nullptr ? run.lines_end : space_end(run, at, end);
}

constexpr std::uint8_t kUpper = kCapital | kCaseless | kMark;  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
constexpr std::uint8_t kLower = kSmall | kCaseless | kMark;    // [\p{Ll}\p{Lm}\p{Lo}\p{M}]

// kUpper* kLower+: the end of the match, or null. The first run takes all it can and gives back as
// much as the second needs to match at all.
Bytes small_word_end(Bytes at, Bytes end) {
  Bytes last_of_both_end = nullptr;
  while (at < end) {
    const Character character = read_character(at, end);
    if ((character.kind & kUpper) == 0) break;
    at += character.n_bytes;
    if ((character.kind & kLower) != 0) last_of_both_end = at;
  }
  const Bytes after = run_end(at, end, kLower);
  return after > at ? after : last_of_both_end;
}

// The two alternatives for words of o200k, without the contraction: the end of the match, or null.
Bytes word_end(Bytes at, Bytes end) {
  const Character first = read_character(at, end);
  const bool may_lead = (first.kind & (kLetter | kNumber)) == 0 && !is_line_end(*at);
  const Bytes body = may_lead ? at + first.n_bytes : at;
  if (const Bytes after = small_word_end(body, end)) return after;
  if (const Bytes after = small_word_end(at, end)) return after;
  if (const Bytes after = run_end(body, end, kUpper); after > body) return after;
  const Bytes after = run_end(at, end, kUpper);
  return after > at ? after : nullptr;
}

Bytes o200k_end(Bytes at, Bytes end, bool digits_apart) {
  if (const Bytes after = word_end(at, end)) {
    return after < end ? after + caseless_contraction_length(after, end) : after;
  }
  const Character first = read_character(at, end);
  if (first.kind == kNumber) {
    return digits_apart ? at + first.n_bytes : numbers_end(at, end, 3);
  }
  if (const Bytes after = punctuation_end(at, end, "\r\n/")) return after;
  const Run run = space_run(at, end);
  return run.lines_end != nullptr ? run.lines_end : space_end(run, at, end);
}

// What the bytes of a block are: the ASCII masks, and each byte of a longer character as the
// character is.
struct BlockMasks {
  std::uint64_t letters;
  std::uint64_t numbers;
  std::uint64_t number_starts;
  std::uint64_t spaces;
  std::uint64_t blanks;
  std::uint64_t quotes;
};

constexpr std::size_t kWindowBlocks = 64;
constexpr std::size_t kWindowBytes = kWindowBlocks * kBlockBytes;

// The bytes of a character that reach into the next block.
struct Overhang {
  std::uint64_t bits = 0;
  std::uint8_t kind = kOther;
};

// Adds the characters that are not ASCII; false if one of them is white space, which takes the slow
// way, since its last character is not its last byte.
bool add_non_ascii(BlockMasks& block, std::uint64_t non_ascii, Bytes text, Bytes end,
                   Overhang& overhang) {
  const auto add = [&block](std::uint64_t bits, std::uint8_t kind) {
    if ((kind & kLetter) != 0) block.letters |= bits;
    if (kind == kNumber) block.numbers |= bits;
  };
  add(overhang.bits, overhang.kind);
  non_ascii &= ~overhang.bits;
  overhang = {};
  while (non_ascii != 0) {
    const int at = std::countr_zero(non_ascii);
    const Character character = read_non_ascii(text + at, end);
    if (character.kind == kSpace) return false;
    const std::uint64_t bytes = (std::uint64_t{1} << character.n_bytes) - 1;
    add(bytes << at, character.kind);
    if (character.kind == kNumber) block.number_starts |= std::uint64_t{1} << at;
    non_ascii &= ~(bytes << at);
    const int n_here = static_cast<int>(kBlockBytes) - at;
    if (character.n_bytes > n_here) overhang = {bytes >> n_here, character.kind};
  }
  return true;
}

std::uint32_t* append_ends(std::uint32_t* out, std::uint64_t starts, std::uint32_t base) {
  const int n_starts = std::popcount(starts);
  std::uint32_t* const after = out + n_starts;
  // Eight at a time whether or not there are so many: the rest is written over later.
  do {
    for (int i = 0; i < 8; ++i) {
      out[i] = base + static_cast<std::uint32_t>(std::countr_zero(starts));
      starts &= starts - 1;
    }
    out += 8;
  } while (out < after);
  return after;
}

}  // namespace

std::size_t piece_end(const SplitRule& rule, std::string_view text, std::size_t start) {
  const Bytes begin = reinterpret_cast<Bytes>(text.data());
  const Bytes at = begin + start;
  const Bytes end = begin + text.size();
  switch (rule.pattern) {
    case Pattern::kGpt2:
      return gpt2_end(at, end, rule.digits_apart) - begin;
    case Pattern::kCl100k:
      return cl100k_end(at, end, rule.digits_apart, true) - begin;
    case Pattern::kLlama3:
      return cl100k_end(at, end, rule.digits_apart, false) - begin;
    case Pattern::kO200k:
      return o200k_end(at, end, rule.digits_apart) - begin;
    case Pattern::kNone:
      break;
  }
  return text.size();
}

Splitter::Splitter(SplitRule rule)
    : rule_(rule), classify_(kernels().classify), ends_(kWindowBytes + 2 * kBlockBytes) {}

Splitter::Ends Splitter::next(std::string_view text, std::size_t from) {
  n_ends_ = 0;
  if (rule_.pattern != Pattern::kGpt2 || !by_masks(text, from)) one_by_one(text, from);
  return {ends_.data(), n_ends_};
}

void Splitter::one_by_one(std::string_view text, std::size_t from) {
  n_ends_ = 0;
  std::size_t at = from;
  while (at < text.size() && at - from < kWindowBytes) {
    at = piece_end(rule_, text, at);
    check_piece_length(at - from);
    ends_[n_ends_++] = static_cast<std::uint32_t>(at - from);
  }
}

// GPT-2's pattern as algebra on masks. A piece starts where the kind changes, but not after a blank,
// which leads the next piece instead; white space before something else leaves its last character
// to a piece of its own, or to lead one; contractions are looked at one by one.
bool Splitter::by_masks(std::string_view text, std::size_t from) {
  const Bytes begin = reinterpret_cast<Bytes>(text.data()) + from;
  const std::size_t n_bytes = text.size() - from;
  const Bytes end = begin + n_bytes;

  std::array<AsciiMasks, kWindowBlocks + 1> ascii;
  std::array<BlockMasks, kWindowBlocks + 1> blocks;
  Overhang overhang;
  // Classifies blocks [first, last) of the text into places of the arrays; none past the end.
  const auto classify = [&](std::size_t first, std::size_t last, std::size_t place) {
    const std::size_t n_whole = n_bytes / kBlockBytes;
    const std::size_t n_direct = std::min(last, n_whole) - std::min(first, n_whole);
    classify_(begin + first * kBlockBytes, n_direct, &ascii[place]);
    if (const std::size_t n_rest = n_bytes % kBlockBytes; last > n_whole && n_rest > 0) {
      std::array<std::uint8_t, kBlockBytes> padded{};
      std::memcpy(padded.data(), begin + n_whole * kBlockBytes, n_rest);
      classify_(padded.data(), 1, &ascii[place + n_direct]);
    }
    for (std::size_t block = first; block < last; ++block, ++place) {
      if (block * kBlockBytes >= n_bytes) {
        blocks[place] = {};
        continue;
      }
      const AsciiMasks& plain = ascii[place];
      blocks[place] = {plain.letters, plain.numbers, plain.numbers,
                       plain.spaces,  plain.blanks,  plain.quotes};
      if ((plain.non_ascii | overhang.bits) == 0) continue;
      if (!add_non_ascii(blocks[place], plain.non_ascii, begin + block * kBlockBytes, end,
                         overhang)) {
        return false;
      }
    }
    return true;
  };

  // The highest bit of each mask of the block before, at the bottom; nothing precedes the text.
  std::uint64_t letter_before = 0, number_before = 0, other_before = 0, space_before = 0,
                blank_before = 0;
  std::uint64_t starts_from_before = 1, no_starts_from_before = 0;
  std::uint32_t* out = ends_.data();
  bool is_first = true;
  for (std::size_t block = 0; block * kBlockBytes < n_bytes;) {
    const std::size_t n_blocks_left = (n_bytes - block * kBlockBytes + kBlockBytes - 1) / kBlockBytes;
    const std::size_t n_here = std::min(kWindowBlocks, n_blocks_left);
    if (is_first) {
      if (!classify(0, n_here + 1, 0)) return false;
    } else {
      blocks[0] = blocks[kWindowBlocks];
      if (!classify(block + 1, block + n_here + 1, 1)) return false;
    }
    check_piece_length((block + n_here) * kBlockBytes);
    for (std::size_t i = 0; i < n_here; ++i, ++block) {
      const BlockMasks& here = blocks[i];
      const std::size_t base = block * kBlockBytes;
      const bool is_last = n_bytes - base <= kBlockBytes;
      const std::uint64_t inside =
          is_last ? ~std::uint64_t{0} >> (kBlockBytes - (n_bytes - base)) : ~std::uint64_t{0};
      const std::uint64_t others = inside & ~(here.letters | here.numbers | here.spaces);
      // The end of the text follows like white space: it leaves no last character over.
      const std::uint64_t space_after = here.spaces >> 1 | blocks[i + 1].spaces << 63 |
                                        (is_last ? inside & ~(inside >> 1) : 0);
      const std::uint64_t not_led = ~(here.blanks << 1 | blank_before);
      const std::uint64_t other_starts = others & ~(others << 1 | other_before) & not_led;
      const std::uint64_t number_starts =
          rule_.digits_apart ? here.number_starts
                             : here.numbers & ~(here.numbers << 1 | number_before) & not_led;
      std::uint64_t starts = (here.letters & ~(here.letters << 1 | letter_before) & not_led) |
                             number_starts | other_starts |
                             (here.spaces & ~(here.spaces << 1 | space_before)) |
                             (here.spaces & ~space_after);
      starts = (starts & ~no_starts_from_before) | starts_from_before;
      starts_from_before = no_starts_from_before = 0;
      for (std::uint64_t quotes = here.quotes & other_starts; quotes != 0; quotes &= quotes - 1) {
        const int at = std::countr_zero(quotes);
        const std::size_t n_bytes_matched = contraction_length(begin + base + at, end);
        if (n_bytes_matched == 0) continue;
        const auto put = [at](std::size_t distance, std::uint64_t& now, std::uint64_t& later) {
          const std::size_t bit = at + distance;
          (bit < kBlockBytes ? now : later) |= std::uint64_t{1} << bit % kBlockBytes;
        };
        std::uint64_t no_starts = 0, more_starts = 0;
        put(1, no_starts, no_starts_from_before);
        put(n_bytes_matched, more_starts, starts_from_before);
        starts = (starts & ~no_starts) | more_starts;
      }
      starts &= inside;
      letter_before = here.letters >> 63;
      number_before = here.numbers >> 63;
      other_before = others >> 63;
      space_before = here.spaces >> 63;
      blank_before = here.blanks >> 63;
      if (is_first && i == 0) starts &= ~std::uint64_t{1};  // the start is no end
      out = append_ends(out, starts, static_cast<std::uint32_t>(base));
    }
    is_first = false;
    if (block * kBlockBytes >= n_bytes) {
      *out++ = static_cast<std::uint32_t>(n_bytes);
      break;
    }
    if (out != ends_.data()) break;
  }
  n_ends_ = out - ends_.data();
  return true;
}

std::size_t settled_bytes(const SplitRule& rule, std::string_view text) {
  if (!rule.cuts()) return 0;
  // A contraction and the character after it.
  constexpr std::size_t kLookAhead = 16;
  if (text.size() <= kLookAhead) return 0;
  const Bytes begin = reinterpret_cast<Bytes>(text.data());
  const Bytes end = begin + text.size();
  Bytes settled = end - kLookAhead;
  const auto last_character = [&](Bytes& start) {
    start = settled - 1;
    while (start > begin && settled - start < 4 && (*start & 0xC0) == 0x80) --start;
    return read_character(start, end);
  };
  // How white space is cut depends on what follows it, and how o200k cuts capitals likewise.
  std::uint8_t run = 0;
  while (settled > begin) {
    Bytes start;
    const Character character = last_character(start);
    if (run == 0) {
      constexpr std::uint8_t kWord = kLetter | kMark;
      if (character.kind == kSpace) run = kSpace;
      if (rule.pattern == Pattern::kO200k && (character.kind & kWord) != 0) run = kWord;
    }
    if ((character.kind & run) == 0) break;
    settled = start;
  }
  return settled - begin;
}

bool always_cut_between(const SplitRule& rule, char before, char after) {
  const auto is_letter = [](char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
  };
  return rule.cuts() && is_letter(before) && (after == ' ' || after == '\n');
}

}  // namespace modelwright
