// What the fuzz harnesses share: choices drawn from the input, and slow twins to compare with.
//
// A harness is one function that libFuzzer calls with bytes. It stops the program where the fast
// way and the slow one part; the sanitizers stop it where memory is touched that is not the text's.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../merge.hpp"
#include "../special.hpp"
#include "../split.hpp"

namespace modelwright::fuzz {

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

// Text in memory that ends where it ends, so that a byte read beyond it is noticed.
class Text {
 public:
  explicit Text(std::string_view bytes)
      : size_(bytes.size()), bytes_(std::make_unique<char[]>(bytes.size())) {
    std::ranges::copy(bytes, bytes_.get());
  }
  std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  std::size_t size_;
  std::unique_ptr<char[]> bytes_;
};

inline SplitRule rule_from(FuzzedDataProvider& input) {
  constexpr Pattern kAll[] = {Pattern::kGpt2, Pattern::kCl100k, Pattern::kLlama3, Pattern::kO200k};
  const auto choice = input.ConsumeIntegralInRange<int>(0, 8);
  if (choice == 8) return {Pattern::kNone, false};
  return {kAll[choice / 2], choice % 2 == 1};
}

// What is left of the input, perhaps many times over: the loops work in blocks and windows.
inline std::string text_from(FuzzedDataProvider& input, std::size_t most = 12'000) {
  const bool is_repeated = input.ConsumeBool();
  const auto n_times = input.ConsumeIntegralInRange<std::size_t>(1, 2000);
  const std::string unit = input.ConsumeRemainingBytesAsString();
  std::string text = unit;
  if (!is_repeated) return text;
  for (std::size_t i = 1; i < n_times && text.size() + unit.size() <= most; ++i) text += unit;
  return text;
}

inline std::vector<std::size_t> ends_one_by_one(const SplitRule& rule, std::string_view text) {
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = piece_end(rule, text, at);
    require(end > at && end <= text.size(), "a piece has an end after its start");
    ends.push_back(at = end);
  }
  return ends;
}

// Merges over few bytes, in an order that need not be one that training would give.
struct Vocabulary {
  static constexpr std::string_view kAlphabet = "ab c\n";

  ByteIds byte_ids{};
  std::vector<std::string> tokens;
  std::vector<MergeRule> rules;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> ranks;

  explicit Vocabulary(FuzzedDataProvider& input, std::size_t most_rules = 40) : tokens(256) {
    // Ids of bytes are not their values in every vocabulary.
    const auto twist = input.ConsumeIntegral<std::uint8_t>();
    for (std::size_t byte = 0; byte < 256; ++byte) {
      byte_ids[byte] = static_cast<std::uint32_t>(byte ^ twist);
      tokens[byte ^ twist] = std::string(1, static_cast<char>(byte));
    }
    std::vector<std::uint32_t> halves;
    for (const char byte : kAlphabet) halves.push_back(byte_ids[static_cast<std::uint8_t>(byte)]);
    const auto n_rules = input.ConsumeIntegralInRange<std::size_t>(0, most_rules);
    for (std::size_t i = 0; i < n_rules; ++i) {
      const auto left = halves[input.ConsumeIntegral<std::uint8_t>() % halves.size()];
      const auto right = halves[input.ConsumeIntegral<std::uint8_t>() % halves.size()];
      const std::string both = tokens[left] + tokens[right];
      if (both.size() > 200) continue;
      if (!ranks.emplace(std::pair{left, right}, rules.size()).second) continue;
      const auto found = std::ranges::find(tokens, both);
      const auto merged = static_cast<std::uint32_t>(found - tokens.begin());
      if (found == tokens.end()) {
        tokens.push_back(both);
        halves.push_back(merged);
      }
      rules.push_back({left, right, merged});
    }
    if (input.ConsumeBool()) add_every_way();
    if (!input.ConsumeBool()) return;
    std::ranges::reverse(rules);
    for (std::size_t rank = 0; rank < rules.size(); ++rank) {
      ranks[{rules[rank].left, rules[rank].right}] = static_cast<std::uint32_t>(rank);
    }
  }

  // Some vocabularies list all the pairs that make a token.
  void add_every_way() {
    for (std::uint32_t id = 256; id < tokens.size(); ++id) {
      for (std::size_t cut = 1; cut < tokens[id].size(); ++cut) {
        const auto left = std::ranges::find(tokens, tokens[id].substr(0, cut));
        const auto right = std::ranges::find(tokens, tokens[id].substr(cut));
        if (left == tokens.end() || right == tokens.end()) continue;
        const std::pair halves{static_cast<std::uint32_t>(left - tokens.begin()),
                               static_cast<std::uint32_t>(right - tokens.begin())};
        if (!ranks.emplace(halves, rules.size()).second) continue;
        rules.push_back({halves.first, halves.second, id});
      }
    }
  }

  // As the definition says it: the first merge of all, leftmost, until there is none.
  std::vector<std::uint32_t> merge_slowly(std::string_view piece) const {
    std::vector<std::uint32_t> ids;
    for (const char byte : piece) ids.push_back(byte_ids[static_cast<std::uint8_t>(byte)]);
    for (;;) {
      std::uint32_t best = 0xFFFFFFFF;
      std::size_t place = 0;
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        const auto found = ranks.find({ids[i], ids[i + 1]});
        if (found == ranks.end() || found->second >= best) continue;
        best = found->second;
        place = i;
      }
      if (best == 0xFFFFFFFF) return ids;
      ids[place] = rules[best].merged;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(place) + 1);
    }
  }
};

// Special tokens with all that makes them hard: prefixes of each other, places in the middle where
// text may be cut, parts of characters.
inline constexpr std::string_view kSpecials[] = {
    "<|a", "<|a|>", "ab c", "b c", "  ", "\xE4\xB8\xAD", "\xB8", "a\n",
    "<|a long one, with blanks|>"};

inline std::vector<SpecialToken> specials_from(FuzzedDataProvider& input) {
  std::vector<SpecialToken> specials;
  const auto chosen = input.ConsumeIntegral<std::uint16_t>();
  for (std::size_t i = 0; i < std::size(kSpecials); ++i) {
    if ((chosen >> i & 1) != 0) {
      specials.push_back({std::string(kSpecials[i]), static_cast<std::uint32_t>(1000 + i)});
    }
  }
  return specials;
}

// The parts of a text: the number of a special token, or -1, and the text itself.
inline std::vector<std::pair<std::int64_t, std::string>> parts_slowly(
    std::string_view text, const std::vector<SpecialToken>& specials) {
  std::vector<std::pair<std::int64_t, std::string>> parts;
  std::string between;
  for (std::size_t at = 0; at < text.size();) {
    const SpecialToken* longest = nullptr;
    for (const SpecialToken& special : specials) {
      if (!text.substr(at).starts_with(special.text)) continue;
      if (longest == nullptr || special.text.size() > longest->text.size()) longest = &special;
    }
    if (longest == nullptr) {
      between += text[at++];
      continue;
    }
    if (!between.empty()) parts.emplace_back(-1, std::exchange(between, {}));
    parts.emplace_back(longest->id, longest->text);
    at += longest->text.size();
  }
  if (!between.empty()) parts.emplace_back(-1, between);
  return parts;
}

}  // namespace modelwright::fuzz
