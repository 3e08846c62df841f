// Text that comes in chunks, handled as if it had come whole.
//
// A chunk may end inside a piece, a character or a special token, so the end of what is there is
// held back until it is settled. Memory stays near the size of a chunk, unless the text holds a
// longer run that has no place to cut.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

#include "special.hpp"
#include "split.hpp"

namespace modelwright {

// A consumer has `std::size_t take(text, settled)`, which handles the pieces from the start of `text`
// that end up to `settled` and returns where the last of them ends, and `take_special(token)`.
class Feed {
 public:
  Feed(SplitRule rule, const SpecialTokens& specials) : rule_(rule), specials_(specials) {}

  // Room for `n_bytes` more; `advance` says how many of them were filled.
  char* room(std::size_t n_bytes) {
    if (buffer_.size() < n_held_ + n_bytes) buffer_.resize(n_held_ + n_bytes);
    return buffer_.data() + n_held_;
  }

  template <class Consumer>
  void advance(std::size_t n_bytes, bool is_end, Consumer& consumer) {
    n_held_ += n_bytes;
    if (n_held_ < worth_a_try_ && !is_end) return;
    const std::string_view all(buffer_.data(), n_held_);
    std::size_t start = 0;
    for (;;) {
      const SpecialTokens::Match match = specials_.find(all, start);
      // A longer special token may start at the same place.
      const bool is_sure = is_end || match.at + specials_.longest() <= all.size();
      if (match.token != nullptr && is_sure) {
        if (match.at > start) {
          consumer.take(all.substr(start, match.at - start), match.at - start);
        }
        consumer.take_special(*match.token);
        start = match.at + match.token->text.size();
        continue;
      }
      // A special token that has only begun by now is no text.
      const std::size_t n_open = specials_.longest() > 0 ? specials_.longest() - 1 : 0;
      const std::size_t text_end =
          is_end ? all.size() : std::min(match.at, all.size() - std::min(all.size(), n_open));
      if (text_end > start) {
        const std::string_view text = all.substr(start, text_end - start);
        start += consumer.take(text, is_end ? text.size() : settled_bytes(rule_, text));
      }
      break;
    }
    std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(start),
              buffer_.begin() + static_cast<std::ptrdiff_t>(n_held_), buffer_.begin());
    n_held_ -= start;
    // Looking again at what could not be cut is worth it only when there is much more of it.
    worth_a_try_ = start > 0 ? 0 : 2 * n_held_;
  }

 private:
  SplitRule rule_;
  const SpecialTokens& specials_;
  std::vector<char> buffer_;
  std::size_t n_held_ = 0;
  std::size_t worth_a_try_ = 0;
};

}  // namespace modelwright
