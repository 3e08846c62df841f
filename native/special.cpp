#include "special.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace modelwright {

SpecialTokens::SpecialTokens(std::vector<SpecialToken> tokens) : tokens_(std::move(tokens)) {
  std::ranges::stable_sort(tokens_, [](const SpecialToken& one, const SpecialToken& other) {
    return one.text.size() > other.text.size();
  });
  int n_first_bytes = 0;
  for (const SpecialToken& token : tokens_) {
    longest_ = std::max(longest_, token.text.size());
    const auto first = static_cast<std::uint8_t>(token.text[0]);
    if (!std::exchange(is_first_byte_[first], true)) ++n_first_bytes;
    only_first_byte_ = first;
  }
  if (n_first_bytes != 1) only_first_byte_ = -1;
}

SpecialTokens::Match SpecialTokens::find(std::string_view text, std::size_t from) const {
  const Match none{text.size(), nullptr};
  if (tokens_.empty() || text.empty()) return none;  // no text may be a null pointer
  for (std::size_t at = from;; ++at) {
    if (only_first_byte_ >= 0) {
      const void* const found = std::memchr(text.data() + at, only_first_byte_, text.size() - at);
      if (found == nullptr) return none;
      at = static_cast<const char*>(found) - text.data();
    } else {
      while (at < text.size() && !is_first_byte_[static_cast<std::uint8_t>(text[at])]) ++at;
      if (at == text.size()) return none;
    }
    const std::string_view rest = text.substr(at);
    for (const SpecialToken& token : tokens_) {
      if (rest.starts_with(token.text)) return {at, &token};
    }
  }
}

bool SpecialTokens::may_cover(std::string_view text, std::size_t at) const {
  for (const SpecialToken& token : tokens_) {
    const std::size_t n_bytes = token.text.size();
    for (std::size_t before = 1; before < n_bytes && before <= at; ++before) {
      const std::string_view there = text.substr(at - before, n_bytes);
      // Where the text ends within the token, the part that is there counts.
      if (std::string_view(token.text).starts_with(there) && there.size() > before) return true;
    }
  }
  return false;
}

}  // namespace modelwright
