// Cuts text into pieces: words, numbers, punctuation, white space. BPE never merges across two.
//
// The rules are regular expressions of the trade, written by hand over UTF-8; every byte of the text
// belongs to exactly one piece. The expressions stand in src/modelwright/tokenizer/splitting.py, and
// the tests compare every code point and much random text with a regular expression engine.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels.hpp"

namespace modelwright {

enum class Pattern : std::uint8_t { kNone, kGpt2, kCl100k, kLlama3, kO200k };

struct SplitRule {
  Pattern pattern = Pattern::kGpt2;
  bool digits_apart = false;  // every number character is a piece of its own

  bool cuts() const { return pattern != Pattern::kNone; }
};

// Where the piece that starts at `start` ends. `start` is a piece boundary, not the end of `text`.
std::size_t piece_end(const SplitRule& rule, std::string_view text, std::size_t start);

// Finds many ends at a time; holds the memory that this takes.
class Splitter {
 public:
  explicit Splitter(SplitRule rule);

  const SplitRule& rule() const { return rule_; }

  // The ends of the next pieces, as distances from the boundary `from`, which is before the end of
  // `text`: at least one, and as many as a window of some kilobytes holds. Valid until the next call.
  struct Ends {
    const std::uint32_t* data;
    std::size_t size;
  };
  Ends next(std::string_view text, std::size_t from);

  // Calls `visit(start, bounds, n_pieces)` for the pieces from the boundary `from` on, up to
  // kMostInBatch at a time: piece i is the bytes from `start + bounds[i]` to `start + bounds[i + 1]`.
  // Stops before a piece that ends after `settled`, or when about `n_bytes` are done, and returns the
  // boundary it came to.
  static constexpr std::size_t kMostInBatch = 256;
  template <class Visit>
  std::size_t in_batches(std::string_view text, std::size_t from, std::size_t n_bytes,
                         std::size_t settled, Visit&& visit);

 private:
  void one_by_one(std::string_view text, std::size_t from);
  bool by_masks(std::string_view text, std::size_t from);

  SplitRule rule_;
  decltype(Kernels::classify) classify_;
  std::vector<std::uint32_t> ends_;
  std::size_t n_ends_ = 0;
};

template <class Visit>
std::size_t Splitter::in_batches(std::string_view text, std::size_t from, std::size_t n_bytes,
                                 std::size_t settled, Visit&& visit) {
  const std::size_t stop = n_bytes < settled - std::min(from, settled) ? from + n_bytes : settled;
  while (from < stop) {
    const Ends ends = next(text, from);
    const auto* const last = ends.data + ends.size;
    const auto* const after =
        from + last[-1] <= settled
            ? last
            : std::upper_bound(ends.data, last, settled - from,
                               [](std::size_t most, std::uint32_t end) { return most < end; });
    const char* const start = text.data() + from;
    std::uint32_t done = 0;
    for (const auto* at = ends.data; at < after;) {
      const std::size_t n_pieces = std::min<std::size_t>(kMostInBatch, after - at);
      // The first piece of a batch starts where the last one ended.
      std::array<std::uint32_t, kMostInBatch + 1> bounds;
      bounds[0] = done;
      std::copy_n(at, n_pieces, bounds.begin() + 1);
      visit(start, bounds.data(), n_pieces);
      at += n_pieces;
      done = at[-1];
    }
    from += done;
    if (after != last) break;
  }
  return from;
}

// Pieces that end up to here end there whatever follows: `text` may go on, or end, after its last
// byte. A piece may yet start before here and end after.
std::size_t settled_bytes(const SplitRule& rule, std::string_view text);

// Whether every text is cut between these two bytes, whatever surrounds them.
bool always_cut_between(const SplitRule& rule, char before, char after);

}  // namespace modelwright
