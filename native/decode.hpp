// Token ids back to bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace modelwright {

class Decoder {
 public:
  explicit Decoder(std::vector<std::string> tokens);

  std::size_t n_tokens() const { return tokens_.size(); }
  const std::string& token(std::size_t id) const { return tokens_[id]; }

  struct Measure {
    std::size_t n_bytes;
    std::size_t first_unknown;  // where the first id stands that is no token; the number of ids if none
  };
  // How long the text of some ids is. Id is an integer type of 16 bits or more.
  template <class Id>
  Measure measure(const Id* ids, std::size_t n_ids) const;

  // Writes the bytes of ids that were measured, which are `n_bytes`.
  template <class Id>
  void decode(const Id* ids, std::size_t n_ids, char* out, std::size_t n_bytes) const;

 private:
  // Short tokens are copied as sixteen bytes, whatever their length.
  static constexpr std::size_t kSlotBytes = 16;

  std::vector<std::string> tokens_;
  std::vector<std::array<char, kSlotBytes>> slots_;
  std::vector<std::uint32_t> n_bytes_;
};

}  // namespace modelwright
