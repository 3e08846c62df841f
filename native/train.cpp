#include "train.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <stdexcept>
#include <utility>

namespace modelwright {
namespace {

constexpr std::uint32_t kBorder = 0xFFFFFFFF;
constexpr std::size_t kMostPositions = 0xFFFFFFF0;
constexpr std::size_t kByteValues = 256;
constexpr std::size_t kPositionsInChunk = std::size_t{1} << 18;

// How far below the commonest pair the floor starts, and how far it sinks each time. A lower floor
// keeps more pairs at hand, a higher one gathers them more often.
constexpr std::int64_t kFirstDepth = 1 << 13;
constexpr std::int64_t kDepth = 16;

// The place of each byte value in GPT-2's alphabet: printable characters of Latin-1 stand for
// themselves, the others take the characters from U+0100 on.
constexpr std::array<std::uint32_t, kByteValues> kSpelledOrder = [] {
  std::array<std::uint32_t, kByteValues> order{};
  std::uint32_t place = 0;
  const auto is_printable = [](std::size_t byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
  };
  for (std::size_t byte = 0; byte < kByteValues; ++byte) {
    if (is_printable(byte)) order[byte] = place++;
  }
  for (std::size_t byte = 0; byte < kByteValues; ++byte) {
    if (!is_printable(byte)) order[byte] = place++;
  }
  return order;
}();

std::uint64_t prefix_of(const std::string& bytes) {
  std::uint64_t prefix = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    prefix = prefix << 8 | (i < bytes.size() ? static_cast<std::uint8_t>(bytes[i]) : 0);
  }
  return prefix;
}

}  // namespace

void MergeLearner::Side::see(std::uint32_t token, Position position, std::int64_t count) {
  Neighbour& neighbour = of_token[token];
  if (neighbour.n_positions == 0) tokens.push_back(token);
  neighbour.count += count;
  ++neighbour.n_positions;
  sightings.push_back({token, position});
}

MergeLearner::Position* MergeLearner::Arena::take(std::size_t n_positions) {
  if (n_positions > n_free_) {
    n_free_ = std::max(n_positions, kPositionsInChunk);
    chunks_.push_back(std::make_unique_for_overwrite<Position[]>(n_free_));
    free_ = chunks_.back().get();
  }
  n_free_ -= n_positions;
  return std::exchange(free_, free_ + n_positions);
}

void MergeLearner::Arena::clear() {
  chunks_.clear();
  free_ = nullptr;
  n_free_ = 0;
}

MergeLearner::MergeLearner(PieceCounter& counter, const LearnerOptions& options)
    : options_(options) {
  options_.min_frequency = std::max<std::int64_t>(options_.min_frequency, 1);
  for (std::size_t byte = 0; byte < kByteValues; ++byte) {
    tokens_.emplace_back(1, static_cast<char>(byte));
    prefixes_.push_back(prefix_of(tokens_.back()));
    n_bytes_.push_back(1);
  }
  lay_out(counter);
  counter.clear();
}

void MergeLearner::lay_out(const PieceCounter& counter) {
  const std::size_t n_positions = counter.n_distinct_bytes() + counter.n_distinct() + 1;
  if (n_positions >= kMostPositions) {
    throw std::length_error("the distinct pieces of the text come to over 4 GiB");
  }
  token_at_.reserve(n_positions);
  word_blocks_.resize(n_positions / 64 + 1);
  word_counts_.reserve(counter.n_distinct());
  token_at_.push_back(kBorder);  // so that the first token has a place before it
  counter.for_each([this](std::string_view piece, std::int64_t count) {
    if (piece.size() < 2) return;
    const std::size_t start = token_at_.size();
    word_blocks_[start / 64].starts |= std::uint64_t{1} << start % 64;
    for (const char byte : piece) token_at_.push_back(static_cast<std::uint8_t>(byte));
    token_at_.push_back(kBorder);
    word_counts_.push_back(count);
  });
  std::uint32_t n_before = 0;
  for (WordBlock& block : word_blocks_) {
    block.n_before = n_before;
    n_before += static_cast<std::uint32_t>(std::popcount(block.starts));
  }
}

std::int64_t MergeLearner::word_count_at(Position position) const {
  const WordBlock& block = word_blocks_[position / 64];
  const std::uint64_t up_to_here = block.starts << (63 - position % 64);
  return word_counts_[block.n_before + std::popcount(up_to_here) - 1];
}

bool MergeLearner::precedes(const Pair& one, const Pair& other) const {
  if (options_.ties == Ties::kGreatestBytes) {
    const auto compare = [this](std::uint32_t a, std::uint32_t b) {
      if (prefixes_[a] != prefixes_[b]) return prefixes_[a] > prefixes_[b] ? 1 : -1;
      return tokens_[a].compare(tokens_[b]);
    };
    if (one.left != other.left) return compare(one.left, other.left) > 0;
    return compare(one.right, other.right) > 0;
  }
  const bool is_spelled = options_.ties == Ties::kSmallestSpelled;
  const auto place = [is_spelled](std::uint32_t id) {
    return is_spelled && id < kByteValues ? kSpelledOrder[id] : id;
  };
  if (one.left != other.left) return place(one.left) < place(other.left);
  return place(one.right) < place(other.right);
}

inline bool MergeLearner::is_worse(const Candidate& one, const Candidate& other) const {
  if (one.count != other.count) return one.count < other.count;
  return precedes(pairs_[other.pair], pairs_[one.pair]);
}

void MergeLearner::push(std::uint32_t pair) {
  queue_.push_back({pairs_[pair].count, pair});
  std::ranges::push_heap(queue_, [this](const Candidate& one, const Candidate& other) {
    return is_worse(one, other);
  });
}

// Finds every pair that occurs at least `floor_` times, or sets the floor first if there is none.
void MergeLearner::gather() {
  pairs_.clear();
  pair_indices_.clear();
  queue_.clear();
  arena_.clear();
  const auto for_each_pair = [this](auto&& visit) {
    std::size_t word = 0;
    for (Position at = 1; at < token_at_.size(); ++at, ++word) {
      while (token_at_[at] != kBorder) {
        const std::uint32_t left = token_at_[at];
        const Position next = at + n_bytes_[left];
        if (token_at_[next] != kBorder) visit(left, token_at_[next], at, word_counts_[word]);
        at = next;
      }
    }
  };
  // Pairs of bytes, which are most of them at the start, have a table of their own.
  struct Tally {
    std::int64_t count = 0;
    std::uint32_t n_positions = 0;
    std::uint32_t pair = PairMap::kAbsent;
  };
  std::vector<Tally> of_bytes(kByteValues * kByteValues);
  std::vector<Tally> tallies;
  PairMap tally_indices;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> tally_pairs;
  for_each_pair([&](std::uint32_t left, std::uint32_t right, Position, std::int64_t count) {
    Tally* tally;
    if ((left | right) < kByteValues) {
      tally = &of_bytes[left * kByteValues + right];
    } else {
      const auto n_tallies = static_cast<std::uint32_t>(tallies.size());
      const std::uint32_t index = tally_indices.find_or_insert(left, right, n_tallies);
      if (index == n_tallies) {
        tallies.emplace_back();
        tally_pairs.emplace_back(left, right);
      }
      tally = &tallies[index];
    }
    tally->count += count;
    ++tally->n_positions;
  });
  if (floor_ == 0) {
    std::int64_t most = 1;
    for (const Tally& tally : of_bytes) most = std::max(most, tally.count);
    floor_ = std::max(options_.min_frequency, most / kFirstDepth);
  }
  std::vector<Position*> ends;
  const auto keep = [&](std::uint32_t left, std::uint32_t right, Tally& tally) {
    if (tally.count < floor_ || n_bytes_[left] + n_bytes_[right] > options_.max_token_length) return;
    tally.pair = static_cast<std::uint32_t>(pairs_.size());
    Position* const positions = arena_.take(tally.n_positions);
    pairs_.push_back({left, right, tally.count, positions, tally.n_positions});
    ends.push_back(positions);
    pair_indices_.find_or_insert(left, right, tally.pair);
    queue_.push_back({tally.count, tally.pair});
  };
  for (std::size_t i = 0; i < of_bytes.size(); ++i) {
    keep(static_cast<std::uint32_t>(i / kByteValues), static_cast<std::uint32_t>(i % kByteValues),
         of_bytes[i]);
  }
  for (std::size_t i = 0; i < tallies.size(); ++i) {
    keep(tally_pairs[i].first, tally_pairs[i].second, tallies[i]);
  }
  std::ranges::make_heap(queue_, [this](const Candidate& one, const Candidate& other) {
    return is_worse(one, other);
  });
  for_each_pair([&](std::uint32_t left, std::uint32_t right, Position at, std::int64_t) {
    const Tally& tally = (left | right) < kByteValues
                             ? of_bytes[left * kByteValues + right]
                             : tallies[tally_indices.find(left, right)];
    if (tally.pair != PairMap::kAbsent) *ends[tally.pair]++ = at;
  });
}

std::size_t MergeLearner::learn(std::size_t n_merges) {
  std::size_t n_learned = 0;
  while (n_learned < n_merges) {
    if (learn_one()) {
      ++n_learned;
    } else if (floor_ == 0) {
      gather();
    } else if (floor_ > options_.min_frequency) {
      floor_ = std::max(options_.min_frequency, floor_ / kDepth);
      gather();
    } else {
      break;
    }
  }
  return n_learned;
}

bool MergeLearner::learn_one() {
  const auto worse = [this](const Candidate& one, const Candidate& other) {
    return is_worse(one, other);
  };
  while (!queue_.empty()) {
    std::ranges::pop_heap(queue_, worse);
    const Candidate best = queue_.back();
    const std::int64_t count = pairs_[best.pair].count;
    if (count == best.count) {
      queue_.pop_back();
      const Pair merged = pairs_[best.pair];
      pairs_[best.pair].count = 0;
      add_token(merged.left, merged.right);
      merge_everywhere(merged);
      return true;
    }
    if (count >= floor_) {
      queue_.back().count = count;
      std::ranges::push_heap(queue_, worse);
    } else {
      queue_.pop_back();
    }
  }
  return false;
}

void MergeLearner::add_token(std::uint32_t left, std::uint32_t right) {
  merges_.push_back({left, right});
  tokens_.push_back(tokens_[left] + tokens_[right]);
  prefixes_.push_back(prefix_of(tokens_.back()));
  n_bytes_.push_back(n_bytes_[left] + n_bytes_[right]);
}

void MergeLearner::merge_everywhere(const Pair& merged) {
  const auto token = static_cast<std::uint32_t>(tokens_.size() - 1);
  const std::uint32_t n_left = n_bytes_[merged.left];
  const std::uint32_t n_both = n_bytes_[token];
  left_side_.of_token.resize(tokens_.size());
  right_side_.of_token.resize(tokens_.size());
  std::uint32_t* const at = token_at_.data();
  // From left to right, which decides which two of "aaa" are merged.
  for (std::uint32_t i = 0; i < merged.n_positions; ++i) {
    constexpr std::uint32_t kAhead = 8;
    if (i + kAhead < merged.n_positions) __builtin_prefetch(&at[merged.positions[i + kAhead]], 1);
    const Position here = merged.positions[i];
    // A token that took this place later has another id, at its first byte or before it.
    if (at[here] != merged.left || at[here + n_left] != merged.right) continue;
    if (n_left > 1 && at[here + n_left - 1] != merged.left) continue;
    const Position after = here + n_both;
    const std::uint32_t left = at[here - 1];
    const std::uint32_t right = at[after];
    at[here] = token;
    at[after - 1] = token;
    const std::int64_t count = word_count_at(here);
    if (left != kBorder) left_side_.see(left, here - n_bytes_[left], count);
    if (right != kBorder) right_side_.see(right, here, count);
  }
  const auto first_new = static_cast<std::uint32_t>(pairs_.size());
  // First the pairs that start with the new token: some of them are lost again on the other side.
  settle_side(right_side_, false, merged, token);
  settle_side(left_side_, true, merged, token);
  for (std::uint32_t pair = first_new; pair < pairs_.size(); ++pair) {
    if (pairs_[pair].count >= floor_) push(pair);
  }
}

// Each occurrence of a neighbour beside the old pair became one beside the new token.
void MergeLearner::settle_side(Side& side, bool is_left, const Pair& merged, std::uint32_t token) {
  for (const std::uint32_t other : side.tokens) {
    Neighbour& neighbour = side.of_token[other];
    const std::uint32_t lost = is_left ? pair_indices_.find(other, merged.left)
                                       : pair_indices_.find(merged.right, other);
    if (lost != PairMap::kAbsent) pairs_[lost].count -= neighbour.count;
    if (neighbour.count < floor_ ||
        n_bytes_[token] + n_bytes_[other] > options_.max_token_length) {
      continue;
    }
    const auto index = static_cast<std::uint32_t>(pairs_.size());
    neighbour.positions = arena_.take(neighbour.n_positions);
    pairs_.push_back({is_left ? other : token, is_left ? token : other, neighbour.count,
                      neighbour.positions, neighbour.n_positions});
    pair_indices_.find_or_insert(pairs_[index].left, pairs_[index].right, index);
  }
  for (const Sighting& sighting : side.sightings) {
    Neighbour& neighbour = side.of_token[sighting.token];
    if (neighbour.positions != nullptr) *neighbour.positions++ = sighting.position;
  }
  for (const std::uint32_t other : side.tokens) side.of_token[other] = {};
  side.tokens.clear();
  side.sightings.clear();
}

}  // namespace modelwright
