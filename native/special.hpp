// Special tokens: texts that stand for one token as a whole, such as "<|endoftext|>".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace modelwright {

struct SpecialToken {
  std::string text;  // not empty
  std::uint32_t id = 0;
};

class SpecialTokens {
 public:
  explicit SpecialTokens(std::vector<SpecialToken> tokens);

  struct Match {
    std::size_t at;
    const SpecialToken* token;  // null if there is none; `at` is the end of the text then
  };
  // The first match at or after `from`; of several at one place the longest.
  Match find(std::string_view text, std::size_t from) const;

  std::size_t longest() const { return longest_; }

  // Whether a match may reach across `at`.
  bool may_cover(std::string_view text, std::size_t at) const;

 private:
  std::vector<SpecialToken> tokens_;  // the longest first
  std::size_t longest_ = 0;
  std::array<bool, 256> is_first_byte_{};
  int only_first_byte_ = -1;  // -1 if they start with different ones, or there are none
};

// Calls `on_text(part)` and `on_special(token)` for what a text consists of, in order.
template <class OnText, class OnSpecial>
void for_each_part(std::string_view text, const SpecialTokens& specials, OnText&& on_text,
                   OnSpecial&& on_special) {
  for (std::size_t from = 0;;) {
    const SpecialTokens::Match match = specials.find(text, from);
    if (match.at > from) on_text(text.substr(from, match.at - from));
    if (match.token == nullptr) return;
    on_special(*match.token);
    from = match.at + match.token->text.size();
  }
}

}  // namespace modelwright
