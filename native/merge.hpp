// BPE on one piece of text: one token a byte at first; then, as long as some two neighbours are a
// merge, the merge learned first is applied where it occurs leftmost.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace modelwright {

struct MergeRule {
  std::uint32_t left;
  std::uint32_t right;
  std::uint32_t merged;
};

using ByteIds = std::array<std::uint32_t, 256>;

// The learned merges, to be looked up by pair. Read by any number of threads.
class MergeTable {
 public:
  using Rank = std::uint32_t;
  static constexpr Rank kNoMerge = 0xFFFFFFFF;
  static constexpr std::size_t kMostTokens = std::size_t{1} << 21;

  // `rules` are in the order in which they were learned; ids are below kMostTokens.
  MergeTable(const ByteIds& byte_ids, std::span<const MergeRule> rules);

  Rank rank_of(std::uint32_t left, std::uint32_t right) const {
    const std::uint64_t pair = static_cast<std::uint64_t>(left) << 21 | right;
    for (std::size_t at = slot_of(pair);; at = (at + 1) & mask_) {
      const std::uint64_t slot = slots_[at];
      if (slot >> kRankBits == pair) return static_cast<Rank>(slot & kRankMask);
      if (slot == kEmpty) return kNoMerge;
    }
  }
  Rank rank_of_bytes(std::uint8_t left, std::uint8_t right) const {
    return byte_ranks_[static_cast<std::size_t>(left) << 8 | right];
  }
  std::uint32_t merged(Rank rank) const { return merged_ids_[rank]; }
  std::uint32_t byte_id(std::uint8_t byte) const { return byte_ids_[byte]; }
  std::size_t size() const { return merged_ids_.size(); }

 private:
  // A slot holds both ids and the rank. No rank has all bits set, so no slot equals kEmpty.
  static constexpr int kRankBits = 22;
  static constexpr std::uint64_t kRankMask = (std::uint64_t{1} << kRankBits) - 1;
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};

  std::size_t slot_of(std::uint64_t pair) const {
    return static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15) >> shift_);
  }

  ByteIds byte_ids_;
  std::vector<std::uint64_t> slots_;
  std::size_t mask_;
  int shift_;
  std::vector<Rank> byte_ranks_;
  std::vector<std::uint32_t> merged_ids_;
};

// Applies a table; holds the memory that this takes.
class Merger {
 public:
  explicit Merger(const MergeTable& table);

  // The ids of a piece, which is not empty. Valid until the next call.
  std::span<const std::uint32_t> merge(std::string_view piece);

 private:
  using Rank = MergeTable::Rank;

  void merge_short(std::string_view piece);
  void merge_long(std::string_view piece);

  const MergeTable& table_;
  std::uint32_t (*smallest_)(const std::uint32_t*, std::size_t);
  std::vector<std::uint32_t> ids_;

  // For long pieces: the places where a rank may be applied.
  struct Bucket {
    Rank rank;
    std::size_t n_done = 0;
    bool is_sorted = true;
    std::vector<std::uint32_t> positions;
  };
  std::vector<std::uint32_t> bucket_of_rank_;
  std::vector<Bucket> buckets_;
  std::vector<Rank> waiting_;  // a heap of the ranks that have buckets
};

}  // namespace modelwright
