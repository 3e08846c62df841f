#include "characters.hpp"

#include <algorithm>
#include <memory>

#include "unicode_tables.hpp"

namespace modelwright {
namespace {

constexpr std::uint32_t kCodePoints = 0x110000;
constexpr std::uint32_t kPlane = 0x10000;
constexpr std::uint32_t kBlock = 256;

// A byte a code point of the first plane; the others by blocks, most of which are alike.
class KindTable {
 public:
  KindTable() {
    std::unique_ptr<std::uint8_t[]> all(new std::uint8_t[kCodePoints]());
    mark(all.get(), kCapitalRanges, kCapital);
    mark(all.get(), kSmallRanges, kSmall);
    mark(all.get(), kCaselessRanges, kCaseless);
    mark(all.get(), kMarkRanges, kMark);
    mark(all.get(), kNumberRanges, kNumber);
    mark(all.get(), kSpaceRanges, kSpace);
    std::copy_n(all.get(), kPlane, first_plane_.begin());
    for (std::uint32_t block = 0; block < block_of_.size(); ++block) {
      const std::uint8_t* const kinds = all.get() + kPlane + block * kBlock;
      block_of_[block] = find_or_add(kinds);
    }
  }

  const std::uint8_t* first_plane() const { return first_plane_.data(); }
  std::uint8_t first_plane(std::uint32_t code_point) const { return first_plane_[code_point]; }
  std::uint8_t other_plane(std::uint32_t code_point) const {
    const std::uint32_t beyond = code_point - kPlane;
    return blocks_[block_of_[beyond / kBlock] * kBlock + beyond % kBlock];
  }

 private:
  static constexpr std::size_t kMostBlocks = 512;

  template <std::size_t n_ranges>
  static void mark(std::uint8_t* all, const CodePointRange (&ranges)[n_ranges], Kind kind) {
    for (const CodePointRange& range : ranges) {
      std::fill(all + range.first, all + range.last + 1, static_cast<std::uint8_t>(kind));
    }
  }

  std::uint16_t find_or_add(const std::uint8_t* kinds) {
    for (std::uint16_t block = 0; block < n_blocks_; ++block) {
      if (std::equal(kinds, kinds + kBlock, blocks_.get() + block * kBlock)) return block;
    }
    std::copy_n(kinds, kBlock, blocks_.get() + n_blocks_ * kBlock);
    return n_blocks_++;
  }

  std::array<std::uint8_t, kPlane> first_plane_;
  std::array<std::uint16_t, (kCodePoints - kPlane) / kBlock> block_of_;
  std::unique_ptr<std::uint8_t[]> blocks_{new std::uint8_t[kMostBlocks * kBlock]};
  std::uint16_t n_blocks_ = 0;
};

const KindTable kKinds;

constexpr Character kInvalidByte{kOther, 1};

bool is_continuation(std::uint8_t byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

const std::uint8_t* const kFirstPlaneKinds = kKinds.first_plane();

const std::array<std::uint8_t, kFirstNonAscii> kAsciiKinds = [] {
  std::array<std::uint8_t, kFirstNonAscii> kinds{};
  for (std::uint32_t byte = 0; byte < kFirstNonAscii; ++byte) kinds[byte] = kKinds.first_plane(byte);
  return kinds;
}();

Character read_any_non_ascii(const std::uint8_t* at, const std::uint8_t* end) {
  const std::uint8_t lead = at[0];
  const std::ptrdiff_t n_left = end - at;
  if (lead < 0xE0) {
    if (lead < 0xC2 || n_left < 2 || !is_continuation(at[1])) return kInvalidByte;
    return {kKinds.first_plane((lead & 0x1Fu) << 6 | (at[1] & 0x3Fu)), 2};
  }
  if (lead < 0xF0) {
    if (n_left < 3 || !is_continuation(at[1]) || !is_continuation(at[2])) return kInvalidByte;
    const std::uint32_t code_point =
        (lead & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
    const bool is_overlong = code_point < 0x800;
    const bool is_surrogate = code_point - 0xD800 < 0x800;
    if (is_overlong || is_surrogate) return kInvalidByte;
    return {kKinds.first_plane(code_point), 3};
  }
  if (lead > 0xF4 || n_left < 4 || !is_continuation(at[1]) || !is_continuation(at[2]) ||
      !is_continuation(at[3])) {
    return kInvalidByte;
  }
  const std::uint32_t code_point =
      (lead & 0x07u) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu);
  if (code_point < kPlane || code_point >= kCodePoints) return kInvalidByte;
  return {kKinds.other_plane(code_point), 4};
}

}  // namespace modelwright
