// Parts of files, read by offset from an open descriptor, so that threads can share a file.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <system_error>

#include "feed.hpp"
#include "special.hpp"
#include "split.hpp"

namespace modelwright {

inline constexpr std::size_t kReadBytes = std::size_t{1} << 20;

// Reads up to `n_bytes` at `at`; fewer only at the end of the file. Raises std::system_error.
std::size_t read_at(int descriptor, std::uint64_t at, char* out, std::size_t n_bytes);

// The first place at or after `at` where the file may be cut in two that are handled apart, or its
// end.
std::uint64_t next_cut(int descriptor, std::uint64_t at, const SplitRule& rule,
                       const SpecialTokens& specials);

// Hands bytes `begin` to `end` of a file, both of them cuts, to a consumer as Feed does. Returns how
// many bytes there were.
template <class Consumer>
std::uint64_t feed_range(int descriptor, std::uint64_t begin, std::uint64_t end, const SplitRule& rule,
                         const SpecialTokens& specials, Consumer& consumer) {
  Feed feed(rule, specials);
  std::uint64_t at = begin;
  while (at < end) {
    const std::size_t wanted = static_cast<std::size_t>(std::min<std::uint64_t>(kReadBytes, end - at));
    const std::size_t n_bytes = read_at(descriptor, at, feed.room(wanted), wanted);
    at += n_bytes;
    const bool is_short = n_bytes < wanted;  // the file was cut short meanwhile
    feed.advance(n_bytes, is_short || at == end, consumer);
    if (is_short) break;
  }
  return at - begin;
}

}  // namespace modelwright
