#include "merge.hpp"

#include <algorithm>
#include <bit>
#include <functional>

#include "kernels.hpp"

namespace modelwright {
namespace {

constexpr std::size_t kLongestShort = 128;
constexpr std::uint32_t kNowhere = 0xFFFFFFFF;
constexpr std::uint32_t kNoBucket = 0xFFFFFFFF;

}  // namespace

MergeTable::MergeTable(const ByteIds& byte_ids, std::span<const MergeRule> rules)
    : byte_ids_(byte_ids), byte_ranks_(256 * 256, kNoMerge) {
  const std::size_t n_slots = std::bit_ceil(std::max<std::size_t>(16, 2 * rules.size()));
  slots_.assign(n_slots, kEmpty);
  mask_ = n_slots - 1;
  shift_ = 64 - std::countr_zero(n_slots);
  merged_ids_.reserve(rules.size());
  for (const MergeRule& rule : rules) {
    const std::uint64_t pair = static_cast<std::uint64_t>(rule.left) << 21 | rule.right;
    std::size_t at = slot_of(pair);
    while (slots_[at] != kEmpty) at = (at + 1) & mask_;
    slots_[at] = pair << kRankBits | merged_ids_.size();
    merged_ids_.push_back(rule.merged);
  }
  for (std::size_t left = 0; left < 256; ++left) {
    for (std::size_t right = 0; right < 256; ++right) {
      byte_ranks_[left << 8 | right] = rank_of(byte_ids_[left], byte_ids_[right]);
    }
  }
}

Merger::Merger(const MergeTable& table) : table_(table), smallest_(kernels().smallest) {}

std::span<const std::uint32_t> Merger::merge(std::string_view piece) {
  if (piece.size() <= kLongestShort) {
    merge_short(piece);
  } else {
    merge_long(piece);
  }
  return ids_;
}

// A key is a rank with its position in the lowest byte, so the smallest key is the next merge.
void Merger::merge_short(std::string_view piece) {
  constexpr std::uint32_t kNoKey = 0xFFFFFFFF;
  const std::size_t n = piece.size();
  const auto byte_at = [piece](std::size_t i) { return static_cast<std::uint8_t>(piece[i]); };
  std::uint32_t ids[kLongestShort];
  alignas(64) std::uint32_t keys[kLongestShort];
  std::uint8_t next[kLongestShort];
  std::uint8_t previous[kLongestShort];
  const auto key = [](Rank rank, std::size_t position) {
    return rank == MergeTable::kNoMerge ? kNoKey
                                        : rank << 8 | static_cast<std::uint32_t>(position);
  };
  for (std::size_t i = 0; i < n; ++i) {
    ids[i] = table_.byte_id(byte_at(i));
    next[i] = static_cast<std::uint8_t>(i + 1);
    previous[i] = static_cast<std::uint8_t>(i - 1);
    keys[i] = i + 1 < n ? key(table_.rank_of_bytes(byte_at(i), byte_at(i + 1)), i) : kNoKey;
  }
  const std::size_t n_padded = (n + 15) / 16 * 16;
  for (std::size_t i = n; i < n_padded; ++i) keys[i] = kNoKey;
  for (;;) {
    const std::uint32_t best = smallest_(keys, n_padded);
    if (best == kNoKey) break;
    const std::size_t at = best & 0xFF;
    const std::size_t taken = next[at];
    const std::size_t after = next[taken];
    ids[at] = table_.merged(best >> 8);
    next[at] = static_cast<std::uint8_t>(after);
    keys[taken] = kNoKey;
    keys[at] = kNoKey;
    if (after < n) {
      previous[after] = static_cast<std::uint8_t>(at);
      keys[at] = key(table_.rank_of(ids[at], ids[after]), at);
    }
    if (at > 0) {
      const std::size_t before = previous[at];
      keys[before] = key(table_.rank_of(ids[before], ids[at]), before);
    }
  }
  ids_.clear();
  for (std::size_t at = 0; at < n; at = next[at]) ids_.push_back(ids[at]);
}

// The same with a list of places for each rank, so that a long run of one merge costs one step a
// place: n log n at worst for a piece of n bytes, nearly n as a rule.
void Merger::merge_long(std::string_view piece) {
  const auto n = static_cast<std::uint32_t>(piece.size());
  if (bucket_of_rank_.empty()) bucket_of_rank_.assign(table_.size(), kNoBucket);
  std::vector<std::uint32_t> previous(n);
  std::vector<std::uint32_t> next(n);
  // The rank of the pair that starts here; kNoMerge also where the token was swallowed. A listed
  // place that disagrees is out of date.
  std::vector<Rank> ranks(n, MergeTable::kNoMerge);
  const auto list = [&](Rank rank, std::uint32_t position) {
    ranks[position] = rank;
    if (rank == MergeTable::kNoMerge) return;
    if (bucket_of_rank_[rank] == kNoBucket) {
      bucket_of_rank_[rank] = static_cast<std::uint32_t>(buckets_.size());
      buckets_.push_back({rank, 0, true, {}});
      waiting_.push_back(rank);
      std::ranges::push_heap(waiting_, std::greater{});
    }
    Bucket& bucket = buckets_[bucket_of_rank_[rank]];
    if (!bucket.positions.empty() && bucket.positions.back() > position) bucket.is_sorted = false;
    bucket.positions.push_back(position);
  };

  ids_.resize(n);
  for (std::uint32_t i = 0; i < n; ++i) {
    const auto byte = static_cast<std::uint8_t>(piece[i]);
    ids_[i] = table_.byte_id(byte);
    previous[i] = i == 0 ? kNowhere : i - 1;
    next[i] = i + 1 == n ? kNowhere : i + 1;
    if (i + 1 < n) list(table_.rank_of_bytes(byte, static_cast<std::uint8_t>(piece[i + 1])), i);
  }
  while (!waiting_.empty()) {
    const Rank rank = waiting_.front();
    Bucket& bucket = buckets_[bucket_of_rank_[rank]];
    if (bucket.n_done == bucket.positions.size()) {
      std::ranges::pop_heap(waiting_, std::greater{});
      waiting_.pop_back();
      bucket_of_rank_[rank] = kNoBucket;
      bucket.positions = {};
      continue;
    }
    if (!bucket.is_sorted) {
      std::sort(bucket.positions.begin() + static_cast<std::ptrdiff_t>(bucket.n_done),
                bucket.positions.end());
      bucket.is_sorted = true;
    }
    const std::uint32_t at = bucket.positions[bucket.n_done++];
    if (ranks[at] != rank) continue;
    const std::uint32_t taken = next[at];
    const std::uint32_t after = next[taken];
    ids_[at] = table_.merged(rank);
    ranks[taken] = MergeTable::kNoMerge;
    ranks[at] = MergeTable::kNoMerge;
    next[at] = after;
    if (after != kNowhere) {
      previous[after] = at;
      list(table_.rank_of(ids_[at], ids_[after]), at);
    }
    if (const std::uint32_t before = previous[at]; before != kNowhere) {
      list(table_.rank_of(ids_[before], ids_[at]), before);
    }
  }
  buckets_.clear();
  std::size_t n_ids = 0;
  for (std::uint32_t at = 0; at != kNowhere; at = next[at]) ids_[n_ids++] = ids_[at];
  ids_.resize(n_ids);
}

}  // namespace modelwright
