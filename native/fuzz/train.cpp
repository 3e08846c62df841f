// The learner gives the merges that counting every pair anew for each of them gives.

#include "../train.hpp"
#include "fuzz.hpp"

using namespace modelwright;
using namespace modelwright::fuzz;

namespace {

using Pair = std::pair<std::string, std::string>;

struct Word {
  std::vector<std::string> tokens;
  std::int64_t count;
};

std::uint32_t spelled_place(std::uint8_t byte) {
  const auto is_printable = [](int value) {
    return (value >= 0x21 && value <= 0x7E) || (value >= 0xA1 && value <= 0xAC) || value >= 0xAE;
  };
  std::uint32_t place = is_printable(byte) ? 0 : 188;
  for (int before = 0; before < byte; ++before) place += is_printable(before) == is_printable(byte);
  return place;
}

std::vector<Pair> learn_slowly(std::vector<Word> words, std::size_t n_merges,
                               const LearnerOptions& options) {
  std::map<std::string, std::uint32_t> ids;
  for (int byte = 0; byte < 256; ++byte) {
    const auto value = static_cast<std::uint8_t>(byte);
    ids[std::string(1, static_cast<char>(value))] =
        options.ties == Ties::kSmallestSpelled ? spelled_place(value) : value;
  }
  std::vector<Pair> merges;
  while (merges.size() < n_merges) {
    std::map<Pair, std::int64_t> counts;
    for (const Word& word : words) {
      for (std::size_t i = 0; i + 1 < word.tokens.size(); ++i) {
        if (word.tokens[i].size() + word.tokens[i + 1].size() > options.max_token_length) continue;
        counts[{word.tokens[i], word.tokens[i + 1]}] += word.count;
      }
    }
    const Pair* best = nullptr;
    std::int64_t highest = std::max<std::int64_t>(options.min_frequency, 1);
    for (const auto& [pair, count] : counts) {
      if (count < highest) continue;
      // Pairs come in ascending order of their bytes.
      const bool precedes =
          best == nullptr || count > highest || options.ties == Ties::kGreatestBytes ||
          std::pair{ids[pair.first], ids[pair.second]} <
              std::pair{ids[best->first], ids[best->second]};
      if (precedes) best = &pair;
      highest = count;
    }
    if (best == nullptr) break;
    const std::string both = best->first + best->second;
    for (Word& word : words) {
      std::vector<std::string> merged;
      for (std::size_t i = 0; i < word.tokens.size(); ++i) {
        const bool is_here = i + 1 < word.tokens.size() && word.tokens[i] == best->first &&
                             word.tokens[i + 1] == best->second;
        merged.push_back(is_here ? both : word.tokens[i]);
        i += is_here ? 1 : 0;
      }
      word.tokens = std::move(merged);
    }
    ids.emplace(both, static_cast<std::uint32_t>(256 + merges.size()));
    merges.push_back(*best);
  }
  return merges;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  LearnerOptions options;
  options.ties = static_cast<Ties>(input.ConsumeIntegralInRange<int>(0, 2));
  options.min_frequency = input.ConsumeIntegralInRange<std::int64_t>(0, 4);
  if (input.ConsumeBool()) options.max_token_length = input.ConsumeIntegralInRange<int>(1, 6);
  const auto n_merges = input.ConsumeIntegralInRange<std::size_t>(0, 40);
  const auto n_in_a_slice = input.ConsumeIntegralInRange<std::size_t>(1, 40);
  const auto n_letters = input.ConsumeIntegralInRange<std::size_t>(1, 256);

  // Words of a few letters, and counts so far apart that the floor has to sink.
  std::map<std::string, std::int64_t> counts;
  std::size_t n_bytes = 0;
  while (input.remaining_bytes() > 0 && n_bytes < 400) {
    const auto n_shifted = input.ConsumeIntegralInRange<int>(0, 18);
    const auto count = (input.ConsumeIntegralInRange<std::int64_t>(1, 4)) << n_shifted;
    std::string word = input.ConsumeRandomLengthString(40);
    if (n_letters < 256) {
      for (char& byte : word) {
        byte = static_cast<char>('a' + static_cast<std::uint8_t>(byte) % n_letters);
      }
    }
    if (word.empty()) continue;
    counts[word] += count;
    n_bytes += word.size();
  }
  PieceCounter counter({Pattern::kNone, false});
  std::vector<Word> words;
  for (const auto& [word, count] : counts) {
    counter.count_piece(word, count);
    Word letters{{}, count};
    for (const char byte : word) letters.tokens.emplace_back(1, byte);
    words.push_back(letters);
  }

  MergeLearner learner(counter, options);
  require(counter.n_distinct() == 0, "the pieces were taken over");
  while (learner.merges().size() < n_merges) {
    const std::size_t n_wanted = std::min(n_in_a_slice, n_merges - learner.merges().size());
    if (learner.learn(n_wanted) == 0) break;
  }
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  std::vector<Pair> fast;
  for (const Merge& merge : learner.merges()) {
    fast.emplace_back(tokens[merge.left], tokens[merge.right]);
    tokens.push_back(tokens[merge.left] + tokens[merge.right]);
  }
  require(fast == learn_slowly(words, n_merges, options), "the merges are the slow learner's");
  return 0;
}
